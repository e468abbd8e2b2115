"""The judge: reads a run folder and the contract, nothing else, and says of each promise held, broken or inconclusive.

It never raises for a bad folder. What is missing makes a promise inconclusive, what crashes in a checker makes it a
harness error, and what the harness failed at during the run makes harness errors of all that is not broken. Bounds are
applied as they are, without tolerance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gameday.contract import Contract, ContractPromise, Method
from gameday.errors import ExitCode, Inconclusive, worst
from gameday.judge_case import Case, Finding, sentence
from gameday.judge_impact import impact, impact_until_restored, no_impact
from gameday.judge_milvus import metadata_goes_on, searches_fail_recover
from gameday.judge_presto import queries_fail_rescheduled
from gameday.judge_spark import driver_lost, executors_replaced
from gameday.judge_spark_elsewhere import workloads_elsewhere
from gameday.judge_steps import no_customer_step
from gameday.judge_zone import capacity, rescheduled
from gameday.reading import RunFolder

Word = Literal["held", "broken", "inconclusive", "harness error"]

CHECKERS: dict[Method, Callable[[Case], Finding]] = {
    "no_impact": no_impact,
    "impact": impact,
    "impact_until_restored": impact_until_restored,
    "capacity": capacity,
    "rescheduled": rescheduled,
    "queries_fail_rescheduled": queries_fail_rescheduled,
    "searches_fail_recover": searches_fail_recover,
    "metadata_goes_on": metadata_goes_on,
    "driver_lost": driver_lost,
    "executors_replaced": executors_replaced,
    "workloads_elsewhere": workloads_elsewhere,
    "no_customer_step": no_customer_step,
}
_EXIT_CODES: dict[Word, ExitCode] = {
    "held": ExitCode.HELD,
    "broken": ExitCode.BROKEN,
    "inconclusive": ExitCode.INCONCLUSIVE,
    "harness error": ExitCode.HARNESS_ERROR,
}
_FILE = "verdicts.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of one promise in one run; docs/architecture.md tells the fields."""

    promise: str
    verdict: Word
    figure: str = ""
    bound: str = ""
    reason: str = ""
    variant: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


def judge(folder: Path, contract: Contract, *, running: bool = False) -> list[Verdict]:
    """Return a verdict for each promise in the run's `meta.json`, none where that says none or cannot be read.

    A run that did not come to its end is inconclusive, as nobody knows what it would still have written; `running` is
    for a probe that asks in the middle of its own run.
    """
    run = RunFolder(folder)
    try:
        promises = [str(promise_id) for promise_id in run.meta.get("promises") or []]
        variant = str(run.meta.get("variant") or "")
    except Inconclusive:
        return []
    return [replace(_judge_one(run, contract, promise_id, running=running), variant=variant) for promise_id in promises]


def exit_code(verdicts: Sequence[Verdict]) -> ExitCode:
    """Return the worst of the verdicts as an exit code; none at all is inconclusive."""
    return worst([_EXIT_CODES[verdict.verdict] for verdict in verdicts])


def write_verdicts(folder: Path, verdicts: Sequence[Verdict]) -> None:
    """Write `verdicts.json` into a folder; raises OSError where that is not possible."""
    document = [asdict(verdict) for verdict in verdicts]
    (folder / _FILE).write_text(
        json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
    )


def read_verdicts(folder: Path) -> list[Verdict]:
    """Return what `write_verdicts` wrote; raises OSError where there is none."""
    return [Verdict(**verdict) for verdict in json.loads((folder / _FILE).read_text(encoding="utf-8"))]


def _judge_one(run: RunFolder, contract: Contract, promise_id: str, *, running: bool) -> Verdict:
    promise = contract.promise(promise_id)
    if promise is None or promise.judged_by is None:
        lacks = "have this promise" if promise is None else "say how this promise is judged"
        return Verdict(promise_id, "inconclusive", reason=f"The contract does not {lacks}.")
    try:
        finding = _find(run, contract, promise, promise.judged_by.method, running=running)
    except Inconclusive as error:
        verdict = Verdict(promise_id, "inconclusive", reason=sentence(str(error)))
        return _unless_failed(verdict, run)
    except Exception as error:  # noqa: BLE001 - what crashes in a checker is the harness's own failure, and said as that
        return Verdict(promise_id, "harness error", reason=f"The checker failed: {type(error).__name__}: {error}")
    verdict = Verdict(
        promise_id,
        "inconclusive" if finding.open else "held" if finding.held else "broken",
        finding.figure,
        finding.bound,
        sentence(finding.open or finding.reason),
        "",
        finding.evidence,
    )
    return _unless_failed(verdict, run) if finding.held or finding.open else verdict


def _unless_failed(verdict: Verdict, run: RunFolder) -> Verdict:
    """Return the verdict, or a harness error where the harness wrote down that it failed at something in the run."""
    try:
        failure = run.first("error")
    except Inconclusive:
        # without a timeline nobody wrote anything down
        return verdict
    if failure is None:
        return verdict
    reason = f"The harness failed in the run: {failure.get('where')}: {failure.get('message')}"
    return replace(verdict, verdict="harness error", reason=reason)


def _find(run: RunFolder, contract: Contract, promise: ContractPromise, method: Method, *, running: bool) -> Finding:
    """Put a case to its checker; raises Inconclusive where the run says of itself that it is nothing to judge by."""
    refused = run.first("preflight.failed")
    if refused:
        raise Inconclusive(str(refused.get("message")))
    if not running and not run.of_kind("run.end"):
        raise Inconclusive("the run did not come to its end")
    return CHECKERS[method](Case(run, contract, promise))
