"""The report as text: what stands on it, and that nothing which a server said can act on it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_runs import BEGAN_MONO, FAULT_S, HEALED_S, NASTY, write_run, write_workloads

from gameday.contract import Contract, load_contract
from gameday.judge import Verdict
from gameday.paths import PROJECT
from gameday.records import LedgerEntry, ReadBack, Recorder, Request, read_requests, read_workloads, write_read_back
from gameday.report import headline, loss, write_report
from gameday.report_plots import engine_figure, failed_attempts
from gameday.report_story import Mark, deeds, marks, shades
from gameday.report_workloads import WorkloadRow, told, workload_rows
from gameday.timeline import Event, read_timeline


def verdict(promise: str, word: str, **fields: str) -> Verdict:
    """Return a verdict with figures that stand for nothing."""
    told = {"figure": "a figure", "bound": "a bound", "reason": "A reason.", "variant": "two-zones", **fields}
    return Verdict(promise=promise, verdict=word, evidence={"seen": NASTY}, **told)  # type: ignore[arg-type] # any word


@pytest.fixture(scope="module")
def contract() -> Contract:
    """The project's own contract."""
    return load_contract(PROJECT / "contract.yaml")


def page(folder: Path, verdicts: list[Verdict], contract: Contract) -> str:
    """Write the report of one run and return the page without plotly's script, which is most of it."""
    target = folder.parent / "report.html"
    write_report([folder], {folder: verdicts}, target, contract)
    text = target.read_text(encoding="utf-8")
    return re.sub(r"<script>/\*\*\n\* plotly\.js.*?</script>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "No promise was judged"),
        ([("a", "held")], "The promise held"),
        ([("a", "held"), ("b", "held")], "All 2 promises held"),
        ([("a", "held"), ("a", "broken"), ("b", "held")], "2 promises: 1 broken, 1 held"),
        (
            [("a", "held"), ("b", "inconclusive"), ("c", "harness error")],
            "3 promises: 1 harness error, 1 inconclusive, 1 held",
        ),
    ],
)
def test_the_headline_counts_a_promise_once_with_its_worst_verdict(words: list[tuple[str, str]], expected: str) -> None:
    """Only a page on which everything held says so; the worst comes first."""
    assert headline([verdict(promise, word) for promise, word in words]) == expected


def test_the_page_shows_each_promise_with_verdict_figure_bound_reason_and_experiment(
    tmp_path: Path, contract: Contract
) -> None:
    """Everything that a verdict says is on the page, with the promise in words."""
    folder = write_run(tmp_path / "one")
    text = page(folder, [verdict("S5.mds.until", "broken", figure="12 s", bound="10 s", reason="Too late.")], contract)
    promise = next(one.promise for one in contract.promises if one.id == "S5.mds.until")
    for shown in ("S5.mds.until", promise, "broken</span>", "12 s", "Bound: 10 s", "Too late.", "mds-two-zones"):
        assert shown in text
    assert "node-monitor-grace-period" in text
    assert "<dt>Engines under load</dt><dd>mds</dd>" in text


def test_what_a_server_said_is_text_everywhere(tmp_path: Path, contract: Contract) -> None:
    """An error that holds a script appears as text in tables and evidence, and as data in the plots."""
    folder = write_run(tmp_path / "one", title=NASTY)
    text = page(folder, [verdict("S5.customer", "held", figure=NASTY, reason=NASTY)], contract)
    assert NASTY not in text
    assert "<script>console" not in text
    assert "&lt;script&gt;console" in text


def test_a_figure_cannot_end_the_script_element_it_stands_in() -> None:
    """JSON of a plot holds no tag, not even where a name reaches plotly as it is."""
    figure = engine_figure([Request("mds", "x", 0, 0, 1, 0, "ok")], 0.0, [Mark(NASTY, 0.0, NASTY, good=True)], [])
    assert "<" not in figure.to_json()
    assert NASTY in json.loads(figure.to_json())["layout"]["annotations"][-1]["text"]


def test_the_page_names_no_other_place(tmp_path: Path, contract: Contract) -> None:
    """No script, style, font or image is loaded from anywhere, and the browser is told to hold to that."""
    text = page(write_run(tmp_path / "one"), [], contract)
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", text)
    assert "default-src 'none'" in text


def test_a_game_day_has_every_run_on_one_page(tmp_path: Path, contract: Contract) -> None:
    """Each run has its section, and each row of the table leads to its own."""
    folders = [write_run(tmp_path / name, title=f"title of {name}") for name in ("one", "two")]
    target = tmp_path / "report.html"
    given = {folder: [verdict("S5.customer", "held")] for folder in folders}
    write_report(folders, given, target, contract)
    text = target.read_text(encoding="utf-8")
    for number, name in enumerate(("one", "two"), start=1):
        assert f'id="run-{number}">title of {name}' in text
        assert f'href="#run-{number}"' in text
    assert text.count("plotly.js v") == 1


def test_a_folder_in_which_everything_is_missing_is_said_to_be_so(tmp_path: Path, contract: Contract) -> None:
    """A run that died at its start has a page, which says what is not there."""
    (tmp_path / "dead").mkdir()
    text = page(tmp_path / "dead", [], contract)
    assert "No promise was judged" in text
    assert "meta.json of this run cannot be read" in text
    assert "has no timeline" in text
    assert "nothing to plot" in text


def test_the_table_of_who_acted_is_relative_to_the_fault_and_tells_each_change_once(tmp_path: Path) -> None:
    """Faults, the provider and Kubernetes by itself are told; what was there before the fault is not."""
    folder = write_run(tmp_path / "one")
    told = [(round(deed.at_s, 1), deed.actor, deed.what) for deed in deeds(read_timeline(folder / "timeline.jsonl"))]
    assert (0.0, "fault", "zone-power-loss injected") in told
    assert (20.0, "automatic", "node eu-worker-a NotReady") in told
    assert (30.0, "provider", "node-removed") in told
    assert [what for *_, what in told if what.startswith("pod")] == ["pod mds-3 Ready"]


def test_what_operators_were_told_and_did_is_told_with_its_words() -> None:
    """An alert by its name and summary, the end of a runbook's step with its outcome and what was seen."""
    summary = "mds has 2 ready pods and should have 3."
    events = [
        Event(0.0, 10.0, "fault.injected", "fault", {"fault": "zone-power-loss"}),
        Event(5.0, 15.0, "alert.firing", "automatic", {"alert": "FormationPodsGone", "summary": summary}),
        Event(9.0, 19.0, "alert.resolved", "automatic", {"alert": "FormationPodsGone", "summary": summary}),
        Event(9.5, 19.5, "runbook.step.end", "sre", {"step": "restore", "outcome": "ok", "seen": "12 objects"}),
    ]
    assert [(deed.at_s, deed.actor, deed.what, deed.detail) for deed in deeds(events)[1:]] == [
        (5.0, "automatic", "operators are told: FormationPodsGone", summary),
        (9.0, "automatic", "operators are told that it is over: FormationPodsGone", summary),
        (9.5, "sre", "step ended: restore", "ok; 12 objects"),
    ]


def test_each_lost_zone_is_shaded_until_it_is_healed_itself(tmp_path: Path) -> None:
    """Where two zones return one after the other, each has its own stretch; without healing it lasts to the end."""
    events = read_timeline(write_run(tmp_path / "one") / "timeline.jsonl")
    last = events[-1].mono
    found = [(round(shade.begin_s), round(shade.end_s), shade.healed) for shade in shades(events, last)]
    assert found == [(0, 66, True), (0, 70, True)]
    unhealed = [event for event in events if event.kind != "fault.healed"]
    assert [shade.healed for shade in shades(unhealed, last)] == [False, False]


def test_marks_are_lettered_in_the_order_of_time(tmp_path: Path) -> None:
    """In effect, each zone's healing and the recovery have a letter each."""
    events = read_timeline(write_run(tmp_path / "one") / "timeline.jsonl")
    found = marks(events, [BEGAN_MONO + HEALED_S + 1])
    assert [(mark.letter, round(mark.at_s, 1), mark.good) for mark in found] == [
        ("A", 1.2, False),
        ("B", 66.0, True),
        ("C", 67.0, True),
        ("D", 70.0, True),
    ]


def test_the_plots_count_what_the_clients_recorded(tmp_path: Path) -> None:
    """Intended, succeeded and failed operations add up to the requests; latencies are of those that succeeded."""
    requests = read_requests(write_run(tmp_path / "one"))
    figure = engine_figure(requests, BEGAN_MONO + FAULT_S, [Mark("A", 0.0, "now", good=False)], [])
    drawn = {trace.name: trace for trace in figure.data}
    assert sum(drawn["intended"].y) == len(requests)
    assert sum(drawn["succeeded"].y) == sum(1 for item in requests if item.outcome == "ok")
    assert sum(drawn["failed"].y) == sum(1 for item in requests if item.outcome == "error") > 0
    during = [value for at_s, value in zip(drawn["p95"].x, drawn["p95"].y, strict=True) if 1 < at_s < 65]
    assert set(during) == {None}
    assert max(value for value in drawn["p99"].y if value) < 1


def test_lost_writes_are_those_acknowledged_and_not_found_where_it_could_be_read(tmp_path: Path) -> None:
    """A write that was never acknowledged is no loss, one in an unreadable place is unknown, and each loss is dated."""
    recorder = Recorder(tmp_path, "1")
    for number, (place, state) in enumerate(
        [
            ("t1", "acknowledged"),
            ("t1", "acknowledged"),
            ("t1", "unknown"),
            ("t2", "acknowledged"),
            ("t3", "acknowledged"),
        ]
    ):
        recorder.ledger(LedgerEntry("mds", place, str(number), state, 100.0 + number, 0.0))  # type: ignore[arg-type] # literals
    assert loss(tmp_path, "mds", 110.0) == "0 of 4; 4 not read back"
    found = [ReadBack("mds", "t1", ["0"], 120, 0), ReadBack("mds", "t2", [], 120, 0, error="refused")]
    write_read_back(tmp_path, found)
    assert loss(tmp_path, "mds", 110.0) == "1 of 4, acknowledged between -9.0 s and -9.0 s; 2 not read back"


def test_the_table_of_workloads_tells_how_each_ended_and_which_were_in_flight(tmp_path: Path) -> None:
    """Relative to the fault, and in flight as the judge counts it: a query taken half a second before is not."""
    folder = write_run(tmp_path / "one")
    write_workloads(folder)
    events = read_timeline(folder / "timeline.jsonl")
    rows = workload_rows(read_workloads(folder), events, BEGAN_MONO + FAULT_S, 1.0)
    assert {(row.name[:7], row.kind, row.in_flight, row.state) for row in rows} == {
        ("query-1", "long query", True, "failed"),
        ("query-2", "long query", False, "failed"),
        ("job-wit", "job", True, "running"),
        ("job-2", "job", False, "succeeded"),
    }
    query = next(row for row in rows if row.name == "query-1")
    assert (query.taken_s, round(query.last_s, 1)) == (-10, 21.3)
    assert query.error == f"{NASTY} (65542)"
    assert next(row for row in rows if row.name == "job-2").taken_s is None
    assert not any(row.in_flight for row in workload_rows(read_workloads(folder), [], 0.0, 1.0))


@pytest.mark.parametrize(("quiet", "shown"), [(10, 12), (11, 2)])
def test_many_workloads_that_nothing_happened_to_are_counted_and_not_listed(quiet: int, shown: int) -> None:
    """One in flight at the fault, and one that failed, always are."""
    row = WorkloadRow(
        "search", "long search", in_flight=False, where="m", taken_s=1, state="succeeded", last_s=2, error=""
    )
    rows = [replace(row, in_flight=True), *[row] * quiet, replace(row, state="failed")]
    listed, left_out = told(rows)
    assert (len(listed), left_out) == (shown, len(rows) - shown)
    assert (listed[0].in_flight, listed[-1].state) == (True, "failed")


def test_the_page_has_a_table_of_workloads_only_for_engines_that_had_some(tmp_path: Path, contract: Contract) -> None:
    """Also for one of which no operation was recorded, which has no plots; what the engine said is text."""
    folder = write_run(tmp_path / "one")
    assert "long queries, long searches and jobs" not in page(folder, [], contract)
    write_workloads(folder)
    text = page(folder, [], contract)
    assert "mds: long queries, long searches and jobs" in text
    assert "spark: long queries, long searches and jobs" in text
    assert "none was recorded" in text
    assert text.count('class="figure"') == 1
    assert text.count("in flight at the fault") == 2
    assert "running at +80.0 s, seen last" in text
    assert NASTY not in text


def test_slow_is_what_the_contract_says_of_the_engine(tmp_path: Path, contract: Contract) -> None:
    """Operations of 2 s are no outage of Presto, and one of MDS."""
    recorder = Recorder(tmp_path, "1")
    for number in range(200):
        for engine in ("mds", "presto"):
            at_s = 1000.0 + number
            recorder.request(Request(engine, "query", at_s, at_s, at_s + (2.0 if number < 100 else 0.1), 0.0, "ok"))
    text = page(tmp_path, [], contract)
    of_presto = text.index("presto: what its clients saw")
    assert "from +0.0 s, 100 operations failed" in text[:of_presto]
    assert "operations failed" not in text[of_presto:]


def test_one_request_is_enough_for_a_plot() -> None:
    """A load that died at once is drawn all the same."""
    request = Request("mds", "load_table", 5.0, 5.0, 5.0, 0.0, "ok")
    drawn = json.loads(engine_figure([request], 5.0, [], []).to_json())
    assert [trace["name"] for trace in drawn["data"][:3]] == ["intended", "succeeded", "failed"]


def test_attempts_that_a_retry_helped_are_plotted_as_failed_attempts() -> None:
    """An operation that succeeded at its third attempt shows the two that did not; a dropped one was never sent."""
    helped = Request("mds", "x", 0, 0, 1, 0, "ok", attempts=3, attempt_errors=["refused", "e" * 99])
    kinds = failed_attempts(helped)
    assert kinds[0] == "refused"
    assert len(kinds[1]) == 36
    assert failed_attempts(Request("mds", "x", 0, 0, 1, 0, "error", error="HTTP 503")) == ["HTTP 503"]
    assert failed_attempts(Request("mds", "x", 0, 0, 0, 0, "dropped")) == ["not sent: no client free"]
    assert failed_attempts(Request("mds", "x", 0, 0, 0, 0, "unfinished")) == []
