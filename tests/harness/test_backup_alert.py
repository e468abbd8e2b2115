"""BackupTooOld, by Prometheus' own tool: a backup that ages, that never was, and that nobody tells of any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from formation_values import VALUES
from monitoring_lab import BREAKS_AT_S, ENDS_AT_S, GONE, Case, Rules, Scraped, watched

from lakehouse.alert_rules import FOR_S, SCRAPE_EVERY_S
from lakehouse.backup.ages import NEWEST
from lakehouse.backup_settings import FORMATIONS, schedules, snapshot_settings

pytestmark = pytest.mark.needs("backup", "monitoring")

# So long is an hour here, and what a schedule of one allows.
HOUR_S, ALLOWED_S = 40, 60
KINDS = {one.kind: one.formation for one in schedules(FORMATIONS, HOUR_S)}


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    """Return the rules where an hour is short."""
    return Rules(tmp_path, HOUR_S)


def old(kind: str) -> dict[str, str]:
    """Return the labels of the alert about a kind."""
    return {"alertname": "BackupTooOld", "formation": KINDS[kind], "severity": "warning", "kind": kind}


def fresh() -> Scraped:
    """Return what is scraped while every kind is backed up all the time: the newest is from the last scrape."""
    scraped = Scraped.well()
    for series in scraped.series:
        if series.startswith(NEWEST):
            scraped.series[series] = f"1+{SCRAPE_EVERY_S}x{ENDS_AT_S // SCRAPE_EVERY_S}"
    return scraped


def test_all_that_is_deployed_is_watched() -> None:
    """Each formation has its Velero backup; its names are those of the list of formations."""
    assert tuple(formation.name for formation in watched()) == FORMATIONS
    assert set(KINDS) == {"etcd", "vectors", "postgres", *(f"velero-{name}" for name in FORMATIONS)}
    settings, _ = snapshot_settings(VALUES, {})
    assert all(f'"{kind}"' in settings["data"]["AGES_KINDS"] for kind in KINDS)


def test_young_backups_are_no_symptom(rules: Rules) -> None:
    """At no evaluation."""
    assert not rules.wrong(Case(fresh(), {second: [] for second in range(0, ENDS_AT_S, 5)}))


def test_each_kind_that_is_no_longer_backed_up_is_told(rules: Rules) -> None:
    """Not before its schedule allows, and alone; the sentence has its age."""
    cases = []
    for kind, formation in KINDS.items():
        series = (NEWEST, f'kind="{kind}"')
        # the last backup is of the scrape before the break
        scraped = fresh().breaks(f"{BREAKS_AT_S - SCRAPE_EVERY_S + 1}+0", *series)
        last = BREAKS_AT_S - SCRAPE_EVERY_S + 1
        due = last + ALLOWED_S
        age = 175 - last
        told = f"The newest backup {kind} of {formation} is {divmod(age, 60)[0]}m {age % 60}s old, "
        told += f"and its schedule allows {ALLOWED_S} s."
        firing: dict[int, list[dict[str, str]]] = {due - 1: [], due + 5 + FOR_S: [old(kind)], 175: [old(kind)]}
        cases.append(Case(scraped, firing, (175, old(kind), told)))
    assert not rules.wrong(*cases)


def test_who_tells_of_backups_no_longer_is_missed(rules: Rules) -> None:
    """What was last known goes on to age; when even that is forgotten none is known."""
    every = [old(kind) for kind in KINDS]
    due = BREAKS_AT_S + ALLOWED_S
    firing: dict[int, list[dict[str, str]]] = {due - 10: [], due + 5 + FOR_S: every, ENDS_AT_S: every}
    age = "The newest backup etcd of milvus is 1m 14s old, and its schedule allows 60 s."
    one: dict[int, list[dict[str, str]]] = {due - 10: [], due + 5 + FOR_S: [old("etcd")]}
    assert not rules.wrong(
        Case(fresh().breaks(GONE, NEWEST), firing),
        Case(fresh().breaks(GONE, NEWEST, 'kind="etcd"'), one, (due + 5 + FOR_S, old("etcd"), age)),
    )


@pytest.mark.parametrize("never", ["0+0x36", "_x36"])
def test_a_backup_that_there_never_was_is_told_when_it_was_due(rules: Rules, never: str) -> None:
    """A schedule that has just begun has as long as there may be between two."""
    scraped = fresh()
    for series in scraped.series:
        if series.startswith(NEWEST) and 'kind="postgres"' in series:
            scraped.series[series] = never
    told = (100, old("postgres"), "No backup postgres of mds is known.")
    assert not rules.wrong(Case(scraped, {40: [], 75: [old("postgres")], ENDS_AT_S: [old("postgres")]}, told))
