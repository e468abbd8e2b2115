"""`chaos backup`: what there is to restore from, how old it is, and the proof that it can be restored."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from kubernetes.client import ApiException
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from urllib3.exceptions import HTTPError

from gameday.cli_cluster import region_option
from gameday.cli_errors import ChaosGroup, says_errors
from gameday.engine import find_engine
from gameday.errors import ChaosError, ExitCode, HarnessError, UsageError, worst
from gameday.regions import alone_in, region_named
from lakehouse.backups.backup import Backup, Kind, Verification, too_old
from lakehouse.backups.kinds import KINDS, kinds_of

# by which a backup could not be looked at; the client of Kubernetes has two of its own
_UNSEEN = (ChaosError, ApiException, HTTPError)
_UNVERIFIED = "not verified"
_UNITS = ("B", "KiB", "MiB", "GiB")
_KIBI = 1024.0

kinds_argument = click.argument("chosen", metavar="[KIND]...", nargs=-1, type=click.Choice(KINDS))
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for machines.")


@click.group(cls=ChaosGroup)
def backup() -> None:
    """Look at backups, take one, and prove that they can be restored.

    Backups are taken by schedules that belong to the lakehouse; the hour of these is declared by `chaos lakehouse up
    --hour-seconds`. They lie in a store outside the cluster.
    """


@backup.command()
@kinds_argument
@region_option
@json_option
@says_errors
def status(chosen: tuple[str, ...], region: str, *, as_json: bool) -> None:
    """Show the newest backup of each KIND (by default all), its age and its size, and what is wrong with any."""
    found = [(kind, _listed(kind)) for kind in _chosen(region, chosen)]
    wall = time.time()
    if as_json:
        click.echo(json.dumps([_as_json(kind, listed, wall) for kind, listed in found], indent=2))
        return
    table = _table("kind", "taken by", "newest", "age", "every", "size", "kept", "state")
    for kind, listed in found:
        newest = _newest(listed)
        table.add_row(
            kind.name,
            kind.actor,
            newest.name if newest else "none",
            f"{newest.age_s(wall):.0f} s" if newest else "",
            f"{kind.every_s:.0f} s",
            size_text(newest.size_bytes) if newest else "",
            str(len(listed)),
            escape("; ".join(_wrong(kind, listed, wall)) or "fit"),
        )
    Console().print(table)


@backup.command()
@kinds_argument
@region_option
@says_errors
def take(chosen: tuple[str, ...], region: str) -> None:
    """Take a backup of each KIND now (by default of all), as the schedules would."""
    with alone_in(region_named(region)):
        for kind in _chosen(region, chosen):
            click.echo(f"{kind.name}: begun", err=True)
            begun = time.monotonic()
            made = kind.take()
            if made.problem:
                raise HarnessError(f"{kind.name}: {made.name} was taken, and is of no use: {made.problem}")
            click.echo(f"{kind.name}: {made.name}, {size_text(made.size_bytes)}, in {time.monotonic() - begun:.0f} s")


@backup.command()
@kinds_argument
@region_option
@click.option("--all", "every", is_flag=True, help="Verify all that are kept, and not only the newest of each kind.")
@json_option
@says_errors
def verify(chosen: tuple[str, ...], region: str, *, every: bool, as_json: bool) -> None:
    """Restore the newest backup of each KIND (by default of all) into a scratch place, and compare.

    Nothing of the lakehouse is touched. The exit code is 1 where a backup is missing, older than its schedule allows,
    cannot be restored, or holds something else than it should; each is named. It is 3 where a kind could not be looked
    at.
    """
    results: list[dict[str, Any]] = []
    with alone_in(region_named(region)):
        for kind in _chosen(region, chosen):
            results += _verified(kind, every=every)
    bad = [result for result in results if result["problems"]]
    if as_json:
        click.echo(json.dumps(results, indent=2))
    else:
        _show(results)
        click.echo(f"{len(results) - len(bad)} of {len(results)} backups can be restored and are in time")
    raise click.exceptions.Exit(int(worst([_code(result) for result in results])))


def _chosen(region: str, names: Sequence[str]) -> list[Kind]:
    found = [kind for kind in kinds_of(region_named(region), find_engine()) if not names or kind.name in names]
    if not found and not names:
        raise UsageError(f"nothing is deployed in region {region}: run `chaos lakehouse up` first")
    if missing := sorted(set(names) - {kind.name for kind in found}):
        raise UsageError(f"the lakehouse of region {region} has no backups of {', '.join(missing)}: it is not deployed")
    return found


def _listed(kind: Kind) -> list[Backup]:
    try:
        return list(kind.backups())
    except HarnessError as error:
        raise HarnessError(f"backups of {kind.name} cannot be listed: {error}") from error


def _newest(listed: Sequence[Backup]) -> Backup | None:
    """Return the newest that can be restored from as far as is seen, or the newest of all where none can."""
    whole = [one for one in listed if one.problem is None]
    return max(whole or listed, key=lambda one: one.taken_wall, default=None)


def _late(kind: Kind, listed: Sequence[Backup], wall: float) -> str | None:
    whole = [one for one in listed if one.problem is None]
    if listed and not whole:
        # what is wrong with each is said by itself
        return None
    return too_old(_newest(whole), kind.every_s, wall)


def _wrong(kind: Kind, listed: Sequence[Backup], wall: float) -> list[str]:
    late = _late(kind, listed, wall)
    return [*([late] if late else []), *(f"{one.name}: {one.problem}" for one in listed if one.problem)]


def _as_json(kind: Kind, listed: Sequence[Backup], wall: float) -> dict[str, Any]:
    return {
        "kind": kind.name,
        "actor": kind.actor,
        "every_s": kind.every_s,
        "backups": [
            {
                "name": one.name,
                "taken": datetime.fromtimestamp(one.taken_wall, UTC).isoformat(timespec="seconds"),
                "age_s": round(one.age_s(wall), 1),
                "size_bytes": one.size_bytes,
                "problem": one.problem,
            }
            for one in listed
        ],
        "problems": _wrong(kind, listed, wall),
    }


def _verified(kind: Kind, *, every: bool) -> list[dict[str, Any]]:
    """Verify the newest backup of a kind, or all; a missing one is a result as well, and one not looked at is too."""
    try:
        listed = _listed(kind)
    except _UNSEEN as error:
        return [_result(kind, None, _not_verified(error), 0.0)]
    late = _late(kind, listed, time.time())
    if not listed:
        return [_result(kind, None, Verification("nothing", (str(late),)), 0.0)]
    # the newest, whatever is known against it: it is what would be restored from
    chosen = sorted(listed, key=lambda one: one.taken_wall)[0 if every else -1 :]
    results = []
    for one in chosen:
        click.echo(f"{kind.name} {one.name}: begun", err=True)
        begun = time.monotonic()
        try:
            verification = _verify(kind, one)
        except _UNSEEN as error:
            # what was found of the others stands
            verification = _not_verified(error)
        if late and one is chosen[-1]:
            verification = Verification(verification.compared, (*verification.problems, late))
        results.append(_result(kind, one, verification, time.monotonic() - begun))
    return results


def _not_verified(error: Exception) -> Verification:
    reason = " ".join(str(error).split()) or type(error).__name__
    return Verification(_UNVERIFIED, (f"it was not verified: {reason}",))


def _code(result: dict[str, Any]) -> ExitCode:
    """Return what a result comes to: one not looked at is an error of the harness, unless it is late all the same."""
    unseen = 1 if result["compared"] == _UNVERIFIED else 0
    if len(result["problems"]) > unseen:
        return ExitCode.BROKEN
    return ExitCode.HARNESS_ERROR if unseen else ExitCode.HELD


def _verify(kind: Kind, one: Backup) -> Verification:
    if one.problem:
        return Verification("nothing", (one.problem,))
    return kind.verify(one, lambda text: click.echo(f"{kind.name} {one.name}: {text}", err=True))


def _result(kind: Kind, one: Backup | None, verification: Verification, took_s: float) -> dict[str, Any]:
    return {
        "kind": kind.name,
        "backup": one.name if one else None,
        "compared": verification.compared,
        "problems": list(verification.problems),
        "took_s": round(took_s, 1),
    }


def _show(results: Sequence[dict[str, Any]]) -> None:
    table = _table("kind", "backup", "compared", "took", "result")
    for result in results:
        verdict = escape("\n".join(result["problems"])) or "restored, the same"
        took = f"{result['took_s']:.0f} s"
        table.add_row(result["kind"], result["backup"] or "none", escape(result["compared"]), took, verdict)
    Console().print(table)


def _table(*columns: str) -> Table:
    """Return a table in which nothing is cut off: a name that is not whole is none."""
    table = Table()
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def size_text(size_bytes: float) -> str:
    """Return a size as a person reads it."""
    for unit in _UNITS:
        if size_bytes < _KIBI or unit == _UNITS[-1]:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= _KIBI
    raise AssertionError
