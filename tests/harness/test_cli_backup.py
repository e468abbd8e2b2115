"""`chaos backup`: ages against the schedule, each backup that cannot be restored by name, and exit codes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from gameday import cli_backup
from gameday.errors import ExitCode, HarnessError
from lakehouse.backups.backup import Backup, Verification, too_old

pytestmark = pytest.mark.needs("backup")

NOW = time.time()
FINE = Verification("3 objects", ())


@dataclass
class OfTest:
    """A kind of backup whose backups and verifications a test gives."""

    name: str
    listed: Sequence[Backup] = ()
    found: Verification = FINE
    actor: str = "sre"
    every_s: float = 3600.0
    broken: str = ""
    raises: Exception | None = None
    verified: list[str] = field(default_factory=list)

    def backups(self) -> Sequence[Backup]:
        """Return those of the test."""
        if self.broken:
            raise HarnessError(self.broken)
        return self.listed

    def take(self) -> Backup:
        """Return one that is new."""
        return Backup("taken", time.time(), 2048)

    def verify(self, backup: Backup, say: Callable[[str], None]) -> Verification:
        """Return what the test wants to be found."""
        say("restoring")
        self.verified.append(backup.name)
        if self.raises:
            raise self.raises
        return self.found


def backup(name: str, age_s: float, problem: str | None = None) -> Backup:
    """Return a backup of an age."""
    return Backup(name, NOW - age_s, 5 * 1024 * 1024, problem)


type Command = Callable[..., Result]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs `chaos backup` on kinds of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(cli_backup, "find_engine", lambda: None)
    # ages are of the moment at which the tests were collected
    monkeypatch.setattr(cli_backup, "time", SimpleNamespace(time=lambda: NOW, monotonic=time.monotonic))

    def run(kinds: Sequence[OfTest], *arguments: str) -> Result:
        monkeypatch.setattr(cli_backup, "kinds_of", lambda _region, _engine: list(kinds))
        return CliRunner().invoke(cli_backup.backup, arguments)

    return run


def parsed(result: Result) -> Any:  # noqa: ANN401 - JSON values
    """Return what a command printed for machines."""
    return json.loads(result.stdout)


def test_status_shows_the_newest_with_its_age_and_size(command: Command) -> None:
    """For people a line each kind, for machines every backup."""
    kind = OfTest("postgres", [backup("first", 5000), backup("second", 100)])
    shown = command([kind], "status")
    assert shown.exit_code == 0
    assert all(part in shown.stdout for part in ("postgres", "second", "5.0 MiB", "3600 s", "fit"))
    (item,) = parsed(command([kind], "status", "--json"))
    assert [one["name"] for one in item["backups"]] == ["first", "second"]
    assert item["backups"][1]["age_s"] == 100
    assert item["problems"] == []


def test_status_names_what_is_late_missing_or_broken(command: Command) -> None:
    """One that is known to be broken counts for nothing, however young."""
    late = OfTest("postgres", [backup("old", 5401 + 60), backup("young", 5, "its manifest is cut short")])
    (one, none) = parsed(command([late, OfTest("vectors")], "status", "--json"))
    assert "the newest backup is 5461 s old" in one["problems"][0]
    assert "the schedule allows 5400 s" in one["problems"][0]
    assert one["problems"][1] == "young: its manifest is cut short"
    assert none["problems"] == ["there is no backup"]


def test_verify_passes_where_every_newest_backup_is_the_same(command: Command) -> None:
    """Older ones are verified when all are asked for."""
    kind = OfTest("postgres", [backup("second", 100), backup("first", 5000)])
    result = command([kind], "verify")
    assert result.exit_code == 0
    assert kind.verified == ["second"]
    assert "1 of 1 backups can be restored" in result.stdout
    assert command([kind], "verify", "--all").exit_code == 0
    assert kind.verified[1:] == ["first", "second"]


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (OfTest("postgres", [backup("one", 9)], Verification("3 keys", ("key a/b differs",))), "key a/b differs"),
        (OfTest("postgres", [backup("one", 5500)]), "the newest backup is 5500 s old"),
        (OfTest("postgres", [backup("one", 9, "it is cut short")]), "it is cut short"),
        (OfTest("postgres"), "there is no backup"),
    ],
    ids=["differs", "too old", "truncated", "missing"],
)
def test_verify_fails_and_names_what_is_wrong(command: Command, kind: OfTest, problem: str) -> None:
    """Another kind that is fine changes nothing about it: exit code 1."""
    result = command([OfTest("vectors", [backup("fine", 3)]), kind], "verify", "--json")
    assert result.exit_code == ExitCode.BROKEN
    fine, wrong = parsed(result)
    assert fine["problems"] == []
    assert wrong["kind"] == "postgres"
    assert problem in wrong["problems"][0]


def test_a_newest_backup_that_is_broken_fails_though_an_older_one_is_whole(command: Command) -> None:
    """It is what would be restored from."""
    kind = OfTest("postgres", [backup("whole", 60), backup("cut", 5, "it is cut short")])
    assert command([kind], "verify").exit_code == ExitCode.BROKEN
    assert kind.verified == []


def test_a_store_that_cannot_be_read_is_an_error_of_the_harness(command: Command) -> None:
    """Nothing is said of backups that nobody has seen."""
    result = command([OfTest("postgres", broken="the store does not answer")], "verify")
    assert result.exit_code == ExitCode.HARNESS_ERROR
    assert "backups of postgres cannot be listed: the store does not answer" in result.output


@pytest.mark.parametrize("error", [HarnessError("no pod"), ApiException(status=500), HTTPError("reset by peer")])
def test_what_could_not_be_verified_hides_nothing_of_what_was(command: Command, error: Exception) -> None:
    """Neither a backup that is broken nor one that is too old; by itself it is an error of the harness."""
    unseen = OfTest("postgres", [backup("one", 9)], raises=error)
    result = command([OfTest("vectors", [backup("fine", 3)]), unseen], "verify", "--json")
    assert result.exit_code == ExitCode.HARNESS_ERROR
    assert [len(one["problems"]) for one in parsed(result)] == [0, 1]
    broken = OfTest("vectors", [backup("differs", 3)], Verification("3 objects", ("one differs",)))
    result = command([broken, unseen], "verify", "--json")
    assert result.exit_code == ExitCode.BROKEN
    assert parsed(result)[0]["problems"] == ["one differs"]
    result = command([OfTest("postgres", [backup("old", 9999)], raises=error)], "verify", "--json")
    assert result.exit_code == ExitCode.BROKEN
    assert len(parsed(result)[0]["problems"]) == 2


def test_take_takes_one_of_each_and_says_its_size(command: Command) -> None:
    """By name, and only of the kinds that were asked for."""
    result = command([OfTest("postgres"), OfTest("vectors")], "take", "vectors")
    assert result.exit_code == 0
    assert result.stdout.startswith("vectors: taken, 2.0 KiB")
    assert "postgres" not in result.output


def test_a_kind_that_is_not_deployed_is_refused(command: Command) -> None:
    """With a sentence, and exit code 64; so is one that does not exist."""
    result = command([OfTest("postgres")], "verify", "vectors")
    assert result.exit_code == ExitCode.USAGE
    assert "no backups of vectors" in result.output
    assert command([OfTest("postgres")], "verify", "tapes").exit_code == ExitCode.USAGE


def test_too_old_is_what_the_schedule_does_not_allow() -> None:
    """Half an interval is left for a backup to be taken in."""
    assert too_old(Backup("a", 1000.0, 1), 100.0, 1150.0) is None
    assert too_old(Backup("a", 1000.0, 1), 100.0, 1151.0) == (
        "the newest backup is 151 s old, and the schedule allows 150 s"
    )
