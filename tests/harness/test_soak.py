"""What `chaos soak` makes of a ledger and of what was read back of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from gameday import cli_soak
from gameday.cli_soak import Soak, _acknowledgements, _kill_all, _look, _soak, _tell
from gameday.errors import DeadlinePassed, ExitCode
from gameday.records import LedgerEntry, LedgerState, ReadBack, write_read_back
from gameday.timeline import JsonLines, Timeline

pytestmark = pytest.mark.needs("milvus")

PLACE = "growing_1"


def write(folder: Path, **states: LedgerState) -> None:
    """Write the last state of writes into a ledger, each attempted before."""
    lines = JsonLines(folder / "ledger-1.jsonl")
    for number, (item, state) in enumerate(states.items()):
        for one in ("attempted", state):
            lines.append(asdict(LedgerEntry("milvus", PLACE, item, one, float(number), 0.0)))  # type: ignore[arg-type]
    lines.close()


def soaked(folder: Path, *items: str, error: str | None = None) -> Soak:
    """Return what becomes of these items that were read back."""
    write_read_back(folder, [ReadBack("milvus", PLACE, list(items), 9.0, 0.0, error)])
    found = Soak(7)
    _look(folder, found)
    return found


@pytest.mark.parametrize(
    ("read", "name", "items", "code"),
    [
        (("a", "b"), "lost", [], ExitCode.HELD),
        (("a", "b", "c"), "unexpected", [], ExitCode.HELD),
        (("a",), "lost", ["growing_1/b"], ExitCode.BROKEN),
        (("a", "b", "b"), "doubled", ["growing_1/b"], ExitCode.BROKEN),
        (("a", "b", "x"), "unexpected", ["growing_1/x"], ExitCode.BROKEN),
    ],
)
def test_what_is_lost_doubled_or_unexpected_breaks_it(
    tmp_path: Path, read: tuple[str, ...], name: str, items: list[str], code: ExitCode
) -> None:
    """A write whose fate nobody knows may be there or not."""
    write(tmp_path, a="acknowledged", b="acknowledged", c="unknown")
    found = soaked(tmp_path, *read)
    assert getattr(found, name) == items
    assert (found.acknowledged, found.exit_code) == (2, code)


def test_what_could_not_be_read_leaves_it_open(tmp_path: Path) -> None:
    """Nothing of it counts as lost."""
    write(tmp_path, a="acknowledged")
    found = soaked(tmp_path, error="gone")
    assert (found.lost, found.unread, found.exit_code) == ([], ["growing_1: gone"], ExitCode.INCONCLUSIVE)


def test_without_a_write_nothing_is_known(tmp_path: Path) -> None:
    """Of none acknowledged none could be lost."""
    write(tmp_path, a="unknown")
    assert soaked(tmp_path).exit_code == ExitCode.INCONCLUSIVE


def test_writes_that_end_break_it(tmp_path: Path) -> None:
    """Also where nothing is lost."""
    write(tmp_path, a="acknowledged")
    found = soaked(tmp_path, "a")
    found.stuck = "no write was acknowledged"
    assert found.exit_code == ExitCode.BROKEN


def passing(error: DeadlinePassed) -> Iterator[None]:
    """Let the first wait succeed and the second pass its deadline."""
    yield None
    raise error


def test_a_milvus_that_does_not_come_back_breaks_it_and_is_read_back_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it lost something is asked all the more then."""
    write(tmp_path, a="acknowledged", b="acknowledged")
    waits = passing(DeadlinePassed("milvus to be ready", 180, "2 of 3 ready"))
    monkeypatch.setattr(cli_soak, "settle", lambda *_: next(waits))
    monkeypatch.setattr(cli_soak, "begin_loads", lambda _: None)
    monkeypatch.setattr(cli_soak, "_kill_all", lambda *_: None)
    read = [ReadBack("milvus", PLACE, ["a"], 9.0, 0.0, None)]
    monkeypatch.setattr(cli_soak, "end_loads", lambda _: write_read_back(tmp_path, read))
    found, session = Soak(7), SimpleNamespace(folder=tmp_path, timeline=Timeline(tmp_path / "timeline.jsonl"))
    _soak(session, 3, found)  # type: ignore[arg-type] # what is used of a session
    assert found.stuck == "waited 180 s for milvus to be ready; last seen: 2 of 3 ready"
    assert (found.lost, found.exit_code) == (["growing_1/b"], ExitCode.BROKEN)


def test_a_part_of_which_no_pod_becomes_ready_breaks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more kills come then, and what was written until then is read back."""
    waits = passing(DeadlinePassed("a pod of milvus-kafka to be ready", 120, "none is"))
    next(waits)
    monkeypatch.setattr(cli_soak, "check_alive", lambda _: None)
    monkeypatch.setattr(cli_soak, "_kill", lambda *_: next(waits))
    found = Soak(7)
    _kill_all(SimpleNamespace(folder=tmp_path), 3, found)  # type: ignore[arg-type] # what is used of a session
    assert found.stuck is not None
    assert found.stuck.endswith("none is, before kill number 1")
    assert (found.kills, found.exit_code) == ({}, ExitCode.BROKEN)


def test_fewer_kills_than_asked_for_do_not_hold(tmp_path: Path) -> None:
    """Nothing is lost, of less than was wanted."""
    write(tmp_path, a="acknowledged")
    found = soaked(tmp_path, "a")
    found.interrupted = True
    assert found.exit_code == ExitCode.INCONCLUSIVE


def test_the_latest_acknowledgement_is_known(tmp_path: Path) -> None:
    """Of what was appended since the last look too, and of nothing else."""
    latest = _acknowledgements(tmp_path)
    assert next(latest) == 0.0
    write(tmp_path, a="acknowledged", b="acknowledged", c="unknown")
    assert next(latest) == 1.0


def test_the_figures_are_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the kills by part, for machines."""
    found = Soak(7, kills={"milvus": 2, "milvus-etcd": 1}, acknowledged=3)
    _tell(found, tmp_path, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["kills"], told["acknowledged"], told["exit_code"]) == ({"milvus": 2, "milvus-etcd": 1}, 3, 0)
