"""Copies of a real broker's files, as backups of volumes have them, compared with the living ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from milvus_lab import GROUP, MilvusLab, eventually

from lakehouse.backup import kafka_files
from lakehouse.milvus.log import Log, LogError

pytestmark = [GROUP, pytest.mark.needs("backup", "milvus")]

TOPIC, PARTITION = "copied", "copied-0"
ROLLED = "rolled"
WRITTEN = 30


@dataclass(frozen=True)
class Copied:
    """The folder of a broker, a copy of it, and when that was begun, in milliseconds since 1970."""

    living: Path
    copy: Path
    begun_ms: int

    @property
    def segment(self) -> Path:
        """Return the one segment of the copy."""
        (found,) = (self.copy / PARTITION).glob("*.log")
        return found

    def problems(self) -> list[str]:
        """Return in what the copy is none, by the program as pods run it."""
        described = program("describe", str(self.copy))
        wanted = {PARTITION: described[PARTITION]} if PARTITION in described else {}
        found: list[str] = program("compare", str(self.living), json.dumps(wanted), str(self.begun_ms))
        # the lab's broker has the logs of other tests, too
        return [problem for problem in found if problem.startswith(PARTITION)]


def program(*arguments: str) -> Any:  # noqa: ANN401 - JSON values
    """Run the program as pods do, by its text, and return what it printed."""
    text = Path(kafka_files.__file__).read_text(encoding="utf-8")
    done = subprocess.run([sys.executable, "-I", "-c", text, *arguments], check=True, capture_output=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def log(lab: MilvusLab) -> Log:
    """Return a log that nobody else writes to."""
    made = Log(f"127.0.0.1:{lab.ports['kafka']}", TOPIC)
    made.create(1)
    return made


@pytest.fixture
def copied(lab: MilvusLab, log: Log, tmp_path: Path) -> Copied:
    """Return a copy of a broker's files with messages that it knows to be safe, written to since."""
    living, copy = lab.folder / "kafka", tmp_path / "kafka"
    last = [log.append("insert", b"x" * 500, 1, str(number)) for number in range(WRITTEN)][-1]
    eventually("the watermark to be written down", lambda: kafka_files.watermarks(living).get(PARTITION) == last + 1)
    time.sleep(0.01)
    begun_ms = int(time.time() * 1000)
    shutil.copytree(living, copy)
    log.append("insert", b"later", 1, "later")
    return Copied(living, copy, begun_ms)


def test_a_copy_of_a_log_that_grew_since_is_one(copied: Copied) -> None:
    """All messages that were safe are in it, and their bytes are counted."""
    described = program("describe", str(copied.copy))[PARTITION]
    assert described["end"] == described["safe"] >= WRITTEN
    assert sum(one["bytes"] for one in described["segments"].values()) == copied.segment.stat().st_size
    assert copied.problems() == []


def test_what_was_written_after_the_watermark_is_not_compared(copied: Copied) -> None:
    """A new leader may have given it up, where it is younger than what must be there."""
    copied = replace(copied, begun_ms=copied.begun_ms - 3_600_000)
    before = program("describe", str(copied.copy))[PARTITION]["segments"][copied.segment.name]
    watermarks = copied.copy / "replication-offset-checkpoint"
    text = watermarks.read_text()
    lines = text.splitlines()
    safe = kafka_files.watermarks(copied.copy)[PARTITION]
    lines[lines.index(f"{TOPIC} 0 {safe}")] = f"{TOPIC} 0 {safe - 1}"
    watermarks.write_text("\n".join([*lines, ""]))
    content = bytearray(copied.segment.read_bytes())
    content[-1] ^= 1
    copied.segment.write_bytes(content)
    after = program("describe", str(copied.copy))[PARTITION]["segments"][copied.segment.name]
    assert 0 < after["bytes"] < before["bytes"]
    assert copied.problems() == []


def _flip(copied: Copied) -> None:
    content = bytearray(copied.segment.read_bytes())
    content[len(content) // 2] ^= 1
    copied.segment.write_bytes(content)


def _cut(copied: Copied) -> None:
    content = copied.segment.read_bytes()
    copied.segment.write_bytes(content[: len(content) // 2])


def _break_a_header(copied: Copied) -> None:
    content = bytearray(copied.segment.read_bytes())
    # the length of the first batch
    content[8:12] = b"\x7f\xff\xff\xff"
    copied.segment.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_flip, "differs within its first"),
        (_cut, "ends at"),
        (_break_a_header, "ends at 0 in it"),
        (lambda copied: copied.segment.unlink(), "ends at 0 in it"),
        (lambda copied: shutil.rmtree(copied.copy / PARTITION), "ends at 0 in it"),
        # without it nothing would be compared
        (lambda copied: (copied.copy / "replication-offset-checkpoint").unlink(), "ends at 0 in it"),
    ],
)
def test_a_damaged_copy_is_named(copied: Copied, damage: Callable[[Copied], None], said: str) -> None:
    """By the partition, and what is wrong with it."""
    damage(copied)
    assert any(said in problem for problem in copied.problems()), copied.problems()


@pytest.fixture(scope="module")
def rolled(lab: MilvusLab) -> Log:
    """Return a log of segments of one MiB, the least that Kafka takes, with three and a half of them written."""
    address = f"127.0.0.1:{lab.ports['kafka']}"
    topic = NewTopic(ROLLED, num_partitions=1, replication_factor=1, config={"segment.bytes": str(2**20)})
    # kept: one that goes takes what it was asked with it
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([topic])[ROLLED].result(timeout=30)
    made = Log(address, ROLLED)
    eventually("the topic to have a leader", lambda: _ends(made))
    return made


def _ends(one: Log) -> bool:
    try:
        return one.end() >= 0
    except LogError:
        return False


def _halve(segment: Path) -> None:
    segment.write_bytes(segment.read_bytes()[: segment.stat().st_size // 2])


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    "damage",
    [_halve, lambda segment: segment.write_bytes(b""), Path.unlink, lambda segment: segment.write_bytes(b"\x00" * 99)],
    ids=["cut in half", "emptied", "missing", "another header"],
)
def test_damage_of_an_older_segment_is_named(
    lab: MilvusLab, rolled: Log, tmp_path: Path, number: int, damage: Callable[[Path], object]
) -> None:
    """The newest says how far a copy goes, and nothing of those before it."""
    living, copy, partition = lab.folder / "kafka", tmp_path / "kafka", f"{ROLLED}-0"
    while len(list((living / partition).glob("*.log"))) < 4:
        last = rolled.append("insert", b"x" * 300_000, 1, "one")
    last = rolled.append("insert", b"x", 1, "last")
    eventually("the watermark to be written down", lambda: kafka_files.watermarks(living).get(partition) == last + 1)
    time.sleep(0.01)
    begun_ms = int(time.time() * 1000)
    shutil.copytree(living, copy)

    def problems() -> list[str]:
        wanted = {partition: program("describe", str(copy))[partition]}
        return [one for one in program("compare", str(living), json.dumps(wanted), str(begun_ms)) if ROLLED in one]

    assert problems() == []
    segment = sorted((copy / partition).glob("*.log"))[number]
    damage(segment)
    (problem,) = problems()
    assert problem.startswith(f"{partition}/{segment.name} has ")


def test_a_segment_that_the_broker_does_not_have_is_named(copied: Copied) -> None:
    """A copy of another log, or of one that was shortened."""
    copied.segment.rename(copied.segment.with_name("00000000000099999999.log"))
    assert any("is in it and not there" in problem for problem in copied.problems())
