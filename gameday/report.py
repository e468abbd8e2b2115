"""The report: one self-contained page for a run or for a whole game day, made from run folders and their verdicts.

Everything on it comes from the folders, so that it can be made again from an old one. The page is opened from disk: it
carries its script and its style, and asks nothing of any network.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from gameday.contract import Contract
from gameday.judge import Verdict, Word
from gameday.measure import Outage, cores_text, mean_cores, outages, resolution_s
from gameday.records import Request, Workload, read_ledger, read_read_back, read_requests, read_workloads
from gameday.report_plots import engine_figure
from gameday.report_story import Deed, Mark, Shade, deeds, marks, origin_mono, shades
from gameday.report_workloads import WorkloadRow, told, workload_rows
from gameday.timeline import Event, read_timeline

# the worst first: the first of these that occurs gives the page its headline
ORDER: tuple[Word, ...] = ("broken", "harness error", "inconclusive", "held")
SYMBOLS = {"held": "✓", "broken": "✗", "inconclusive": "?", "harness error": "!"}


@dataclass(frozen=True, slots=True)
class _Plots:
    """The plots of one engine with their key; `figure_json` is safe inside of a script element."""

    figure_json: Markup
    height_px: int
    marks: list[Mark]
    shades: list[Shade]


@dataclass(frozen=True, slots=True)
class _EngineView:
    """What the template shows of one engine; `plots` is None where no operation was recorded."""

    name: str
    facts: list[tuple[str, str]]
    plots: _Plots | None
    workloads: list[WorkloadRow]
    workloads_left_out: int


@dataclass(frozen=True, slots=True)
class _RunView:
    """What the template shows of one run."""

    anchor: str
    run_id: str
    experiment: str
    title: str
    problems: list[str]
    facts: list[tuple[str, str]]
    declared: list[tuple[str, str]]
    deeds: list[Deed]
    engines: list[_EngineView]


@dataclass(frozen=True, slots=True)
class _Row:
    """One verdict in the table of promises."""

    run: _RunView
    verdict: Verdict
    text: str
    evidence: str


def write_report(
    folders: Sequence[Path], verdicts_by_folder: Mapping[Path, Sequence[Verdict]], target: Path, contract: Contract
) -> None:
    """Write the page of these runs to `target`; a folder without an entry in `verdicts_by_folder` shows no verdicts.

    What a run folder lacks is said on the page. Raises OSError where `target` cannot be written.
    """
    texts = {promise.id: promise.promise for promise in contract.promises}
    runs = [_run_view(folder, number, contract) for number, folder in enumerate(folders, start=1)]
    rows = [
        _Row(run, verdict, texts.get(verdict.promise, ""), _pretty(verdict.evidence))
        for folder, run in zip(folders, runs, strict=True)
        for verdict in verdicts_by_folder.get(folder, [])
    ]
    environment = Environment(
        loader=PackageLoader("gameday"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    verdicts = [row.verdict for row in rows]
    page = environment.get_template("report.html.j2").render(
        headline=headline(verdicts),
        summary=_summary(verdicts, len(runs)),
        tone=_worst(verdicts).replace(" ", "-"),
        symbols=SYMBOLS,
        rows=rows,
        runs=runs,
        # plotly's own file is ours to trust; it holds no closing script tag
        plotly_js=Markup(get_plotlyjs()) if any(one.plots for run in runs for one in run.engines) else "",  # noqa: S704 - see above
    )
    target.write_text(page, encoding="utf-8")


def headline(verdicts: Sequence[Verdict]) -> str:
    """Return the result in a few words; a promise counts once, with the worst verdict that any run gave it."""
    by_promise: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_promise.setdefault(verdict.promise, []).append(verdict)
    counts = Counter(_worst(of_one) for of_one in by_promise.values())
    total = len(by_promise)
    promises = f"{total} promise{'' if total == 1 else 's'}"
    if not total:
        return "No promise was judged"
    if counts["held"] == total:
        return f"All {promises} held" if total > 1 else "The promise held"
    parts = [f"{counts[word]} {word}" for word in ORDER if counts[word]]
    return f"{promises}: {', '.join(parts)}"


def _worst(verdicts: Sequence[Verdict]) -> Word:
    given = {verdict.verdict for verdict in verdicts}
    return next((word for word in ORDER if word in given), "inconclusive")


def _summary(verdicts: Sequence[Verdict], runs: int) -> str:
    counts = Counter(verdict.verdict for verdict in verdicts)
    given = ", ".join(f"{counts[word]} {word}" for word in reversed(ORDER))
    return f"{len(verdicts)} verdicts from {runs} run{'' if runs == 1 else 's'}: {given}"


def _run_view(folder: Path, number: int, contract: Contract) -> _RunView:
    meta, problems = _read_meta(folder)
    events = read_timeline(folder / "timeline.jsonl")
    requests = read_requests(folder)
    if not events:
        problems.append("This run has no timeline.")
    if not requests:
        problems.append("No client operation was recorded in this run, so there is nothing to plot.")
    workloads = read_workloads(folder)
    engines = sorted({request.engine for request in requests} | {workload.engine for workload in workloads})
    experiment = str(meta.get("experiment", folder.name))
    return _RunView(
        anchor=f"run-{number}",
        run_id=str(meta.get("run_id", folder.name)),
        experiment=experiment,
        title=str(meta.get("title", experiment)),
        problems=problems,
        facts=_run_facts(meta, folder, events),
        declared=[(str(name), _plain(value)) for name, value in (meta.get("declared") or {}).items()],
        deeds=deeds(events),
        engines=[
            _engine_view(
                name,
                [item for item in requests if item.engine == name],
                [item for item in workloads if item.engine == name],
                events,
                contract,
                folder,
            )
            for name in engines
        ],
    )


def _read_meta(folder: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {}, [f"The meta.json of this run cannot be read: {error}"]
    return (meta, []) if isinstance(meta, dict) else ({}, ["The meta.json of this run is not an object."])


def _run_facts(meta: Mapping[str, Any], folder: Path, events: Sequence[Event]) -> list[tuple[str, str]]:
    started, cores = meta.get("started_wall"), mean_cores(events)
    host = meta.get("host") or {}
    facts = [
        ("Run", meta.get("run_id", folder.name)),
        ("Experiment", meta.get("experiment")),
        ("Disaster and variant", " · ".join(str(meta[name]) for name in ("disaster", "variant") if meta.get(name))),
        ("Started", f"{datetime.fromtimestamp(started, UTC):%Y-%m-%d %H:%M:%S} UTC" if started else None),
        ("Region and zones", f"{meta['region']}: {_plain(meta.get('zones'))}" if meta.get("region") else None),
        ("Engines under load", meta.get("engines")),
        ("Host", f"{host.get('cores')} cores, {host.get('memory_bytes', 0) / 2**30:.1f} GiB" if host else None),
        ("Cores used, in the mean", cores_text(cores) if cores else None),
        ("Images", meta.get("images")),
        ("Contract", meta.get("contract")),
        ("Harness", meta.get("version")),
    ]
    return [(name, _plain(value)) for name, value in facts if value]


def _engine_view(
    name: str,
    requests: Sequence[Request],
    workloads: Sequence[Workload],
    events: Sequence[Event],
    contract: Contract,
    folder: Path,
) -> _EngineView:
    """Measure and draw one engine; `requests` and `workloads` are all of its own, and not both empty."""
    first = requests[0].intended if requests else workloads[0].steps[0].mono
    origin = origin_mono(events) if events else first
    rows, left_out = told(workload_rows(workloads, events, origin, contract.workloads.in_flight_min_s))
    if not requests:
        return _EngineView(name, [("Operations", "none was recorded")], None, rows, left_out)
    recovery = contract.recovery
    found = outages(requests, sustained_s=recovery.sustained_s, slow_after_s=recovery.slow_after_s_of(name))
    return _EngineView(
        name=name,
        facts=[*_engine_facts(requests, found, origin), ("Acknowledged writes lost (RPO)", loss(folder, name, origin))],
        plots=_plots(requests, found, events, origin),
        workloads=rows,
        workloads_left_out=left_out,
    )


def _plots(requests: Sequence[Request], found: Sequence[Outage], events: Sequence[Event], origin: float) -> _Plots:
    shown_marks = marks(events, [outage.ended for outage in found if outage.ended is not None])
    shown_shades = shades(events, max(request.ended for request in requests))
    figure = engine_figure(requests, origin, shown_marks, shown_shades)
    return _Plots(
        # plotly writes every < of its JSON as an escape, so that none of it can end the script element it stands in
        figure_json=Markup(figure.to_json()),  # noqa: S704 - see above
        height_px=figure.layout.height,
        marks=shown_marks,
        shades=shown_shades,
    )


def _engine_facts(requests: Sequence[Request], found: Sequence[Outage], origin: float) -> list[tuple[str, str]]:
    counts = Counter(request.outcome for request in requests)
    operations = Counter(request.operation for request in requests)
    helped = sum(1 for request in requests if request.outcome == "ok" and request.attempts > 1)
    shown = [_outage_text(outage, origin, resolution_s(requests)) for outage in found]
    return [
        (
            "Operations",
            f"{len(requests)}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()),
        ),
        ("Kinds of operations", ", ".join(f"{count} {operation}" for operation, count in operations.most_common())),
        ("Saved by a retry", str(helped)),
        ("Outages, first failure to first sustained success (RTO)", "; ".join(shown) or "none"),
    ]


def loss(folder: Path, engine: str, origin: float) -> str:
    """Return how many acknowledged writes of an engine were not found again, and when those had been acknowledged.

    Times are in seconds relative to `origin`. Writes in a place that could not be read are neither found nor lost.
    """
    acknowledged = {
        (entry.place, entry.item): entry.mono
        for entry in read_ledger(folder)
        if entry.engine == engine and entry.state == "acknowledged"
    }
    read_back = {item.place: item for item in read_read_back(folder) if item.engine == engine}
    readable = {place for place, item in read_back.items() if item.error is None}
    found = {(place, item) for place in readable for item in read_back[place].items}
    lost = sorted(mono - origin for key, mono in acknowledged.items() if key[0] in readable and key not in found)
    unread = sum(1 for place, _ in acknowledged if place not in readable)
    text = f"{len(lost)} of {len(acknowledged)}"
    if lost:
        text += f", acknowledged between {lost[0]:+.1f} s and {lost[-1]:+.1f} s"
    return f"{text}; {unread} not read back" if unread else text


def _outage_text(outage: Outage, origin: float, resolution: float | None) -> str:
    detail = f"from {outage.started - origin:+.1f} s, {outage.failed} operations failed"
    if outage.length_s is None:
        return f"not ended, {detail}"
    exact = f", to within {resolution:.2f} s" if resolution else ""
    return f"{outage.length_s:.1f} s {detail}{exact}"


def _plain(value: object) -> str:
    """Return a value of meta.json as a person reads it."""
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pretty(evidence: Mapping[str, Any]) -> str:
    return json.dumps(evidence, indent=2, ensure_ascii=False, default=str) if evidence else ""
