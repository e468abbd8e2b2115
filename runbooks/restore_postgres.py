"""Restore the managed database to a point in time, from a base backup and the archived log."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from gameday.errors import UsageError
from gameday.waiting import wait_until
from lakehouse.backups.postgres import PostgresBackups, restore_to
from lakehouse.deploy import endpoints, not_serving
from lakehouse.mds_formation import MDS
from runbooks.runbook import Parameter, Runbook, Situation, Step

_NEWEST = "newest"
_SERVING_DEADLINE_S = 120.0


def _choose(situation: Situation) -> str:
    """Find the base backup that the moment is after; the log takes the database from there to it."""
    whole = [one for one in PostgresBackups(situation.region, situation.engine).backups() if one.problem is None]
    if not whole:
        raise UsageError("there is no base backup of the database to restore from: see `chaos backup status postgres`")
    asked = situation.values["to"]
    wall = None if asked == _NEWEST else _moment(asked)
    if wall is not None and not whole[0].taken_wall <= wall <= time.time():
        oldest = datetime.fromtimestamp(whole[0].taken_wall, UTC).isoformat(timespec="seconds")
        raise UsageError(f"the database cannot be restored to {asked}: from {oldest} until now it can")
    used = max((one for one in whole if wall is None or one.taken_wall <= wall), key=lambda one: one.taken_wall)
    situation.found["wall"] = wall
    return f"base backup {used.name}, {used.age_s(time.time()):.0f} s old, and the log until {asked}"


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no moment: give it as 2026-01-31T12:00:00+00:00, or `{_NEWEST}`") from error
    if moment.tzinfo is None:
        raise UsageError(f"{text!r} says no time zone: give it as {text}+00:00")
    return moment.timestamp()


def _restore(situation: Situation) -> str:
    restore_to(situation.region, situation.engine, situation.found["wall"])
    return f"restored to {situation.values['to']}; what it had before is kept beside it"


def _await_mds(situation: Situation) -> str:
    address = endpoints(situation.region, situation.engine)[MDS.name]
    wait_until("MDS to serve", lambda: not_serving(MDS, address), deadline_s=_SERVING_DEADLINE_S)
    return f"{MDS.name} serves at {address}"


RESTORE_POSTGRES = Runbook(
    name="restore-postgres",
    title="Restore the managed database to a point in time",
    when="Rows of the catalogue or of the console are lost or wrong, or the database itself is damaged.",
    steps=(
        Step(
            "choose-moment", "sre", "choose the moment to go back to, and the base backup before it", _choose, _choose
        ),
        Step("restore-database", "sre", "stop the database, restore it to that moment, and start it", _restore),
        Step("await-mds", "sre", "wait until MDS serves from the restored database", _await_mds),
    ),
    parameters=(
        Parameter("to", "the moment to restore to, with its time zone, or `newest` for all that is archived", _NEWEST),
    ),
)
