"""The contract: every promise of the document is in it, and a file that makes no sense is refused and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gameday.contract import METHODS, load_contract
from gameday.errors import UsageError
from gameday.judge import CHECKERS
from gameday.paths import PROJECT

IDS = [
    "S1.all.alert", "S1.all.temporary", "S1.all.review", "S1.milvus.inflight", "S1.milvus.restore",
    "S1.presto.inflight", "S1.presto.restore", "S1.mds.inflight", "S1.mds.outage", "S1.mds.velero",
    "S1.mds.port-conflict", "S1.spark.tied", "S1.spark.others", "S1.spark.rerun", "S1.customer", "S2.milvus.outage",
    "S2.milvus.restore", "S2.milvus.no-loss", "S2.presto.none", "S2.mds.none", "S2.spark.none", "S2.customer",
    "S3.all.outage", "S3.milvus.restore", "S3.milvus.rpo", "S3.milvus.vectors", "S3.presto.pitr", "S3.mds.none",
    "S3.spark.none", "S3.customer", "S4.milvus.restore", "S4.milvus.rpo", "S4.milvus.vectors", "S4.presto.restore",
    "S4.mds.inflight", "S4.mds.outage", "S4.spark.fail", "S4.spark.no-loss", "S4.spark.new-cluster", "S4.spark.rerun",
    "S4.customer", "S5.all.capacity", "S5.all.rescheduled", "S5.milvus.active-active", "S5.milvus.inflight",
    "S5.presto.rescheduled", "S5.mds.one-zone", "S5.mds.two-zones", "S5.mds.until", "S5.spark.driver",
    "S5.spark.executors", "S5.spark.elsewhere", "S5.customer", "S6.milvus.provision", "S6.milvus.same-bucket",
    "S6.milvus.crns", "S6.milvus.restore", "S6.milvus.kafka", "S6.presto.provision", "S6.presto.restore",
    "S6.mds.restore", "S6.mds.repoint", "S6.mds.rpo", "S6.mds.rto", "S6.mds.console-ams", "S6.spark.fail",
    "S6.spark.provision", "S6.spark.no-loss", "S6.customer",
]  # fmt: skip
JUDGED = {
    "S5.all.capacity", "S5.all.rescheduled", "S5.presto.rescheduled", "S5.mds.one-zone", "S5.mds.two-zones",
    "S5.mds.until", "S5.spark.driver", "S5.spark.executors", "S5.spark.elsewhere", "S5.customer",
    "S5.milvus.active-active", "S5.milvus.inflight",
}  # fmt: skip


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write the project's contract to `path`, changed."""
    document = yaml.safe_load((PROJECT / "contract.yaml").read_text(encoding="utf-8"))
    change(document)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_every_promise_of_the_document_is_in_the_contract_once() -> None:
    """No promise is dropped, merged with another, or added."""
    assert load_contract(PROJECT / "contract.yaml").ids == IDS
    assert len(IDS) == 69


def test_only_what_can_be_judged_says_how() -> None:
    """Each way of judging has a checker, and the promises that have one are those that are exercised."""
    contract = load_contract(PROJECT / "contract.yaml")
    assert {promise.id for promise in contract.promises if promise.judged_by} == JUDGED
    assert set(CHECKERS) == set(METHODS)


def test_coverage_tells_of_every_promise_which_experiments_exercise_it() -> None:
    """A promise without an experiment is there too, with none; one that does not exist is refused."""
    contract = load_contract(PROJECT / "contract.yaml")
    covered = {one.promise.id: one.exercised_by for one in contract.coverage({"S5.customer": ["a.yaml", "b.yaml"]})}
    assert list(covered) == IDS
    assert covered["S5.customer"] == ("a.yaml", "b.yaml")
    assert covered["S1.customer"] == ()
    with pytest.raises(UsageError, match=r"c\.yaml names the promise S9\.x"):
        contract.coverage({"S9.x": ["c.yaml"]})


def test_an_engine_may_have_bounds_of_its_own_with_a_reason(tmp_path: Path) -> None:
    """What an engine does not override stays as it is for all."""

    def change(document: dict[str, Any]) -> None:
        document["impact"]["engines"] = {"spark": {"longest_gap_s_max": 60, "reason": "its jobs take minutes"}}

    impact = load_contract(changed(tmp_path / "c.yaml", change)).impact
    assert impact.of("spark").longest_gap_s_max == 60
    assert impact.of("spark").error_ratio_max == impact.of("mds").error_ratio_max == 0.001
    assert impact.of("mds").longest_gap_s_max == 5


def test_an_engine_may_have_figures_of_its_own_for_recovery_and_evidence() -> None:
    """Presto's queries take longer, and those of Presto and Spark are fewer, than calls of the catalogue."""
    contract = load_contract(PROJECT / "contract.yaml")
    assert [contract.recovery.slow_after_s_of(engine) for engine in ("mds", "presto", "spark")] == [1, 5, 1]
    assert [contract.evidence.baseline_requests_min_of(engine) for engine in ("mds", "presto", "spark")] == [
        100,
        30,
        30,
    ]


@pytest.mark.parametrize("variant", ["one-zone", "zone-with-driver", "zone-with-executors-only", "zone-with-neither"])
def test_what_holds_of_one_zone_holds_whatever_stands_in_it(variant: str) -> None:
    """Each promise on the loss of one zone names all variants in which one zone loses power."""
    contract = load_contract(PROJECT / "contract.yaml")
    for promise_id in (
        "S5.all.capacity",
        "S5.all.rescheduled",
        "S5.mds.one-zone",
        "S5.milvus.active-active",
        "S5.milvus.inflight",
        "S5.presto.rescheduled",
    ):
        promise = contract.promise(promise_id)
        assert promise
        assert variant in promise.variants


def first_promise(**fields: object) -> Callable[[dict[str, Any]], object]:
    """Return a change of the first promise."""
    return lambda document: document["promises"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (first_promise(id="S1.customer"), "promise S1.customer"),
        (lambda document: document["promises"].append(document["promises"][3]), "S1.milvus.inflight is there twice"),
        (first_promise(bond=3), "promise S1.all.alert, bond"),
        (first_promise(disaster=7), "promise S1.all.alert, disaster"),
        (first_promise(engine="mds"), "the id does not begin with S1.mds"),
        (first_promise(judged_by={"method": "guess"}), "promise S1.all.alert, judged_by, method"),
        (first_promise(bounds={"rpo_s_max": {"value": -1}}), "promise S1.all.alert, bounds, rpo_s_max, value"),
        (lambda document: document["impact"]["reasons"].pop("error_ratio_max"), "error_ratio_max has no reason"),
        (lambda document: document["recovery"]["reasons"].update(x="y"), "there is a reason for x, which is no figure"),
        (lambda document: document["impact"].update(engines={"spark": {}}), "impact, engines, spark, reason"),
        (lambda document: document["recovery"]["engines"]["presto"].pop("reason"), "recovery, engines, presto, reason"),
        (lambda document: document["recovery"]["engines"]["presto"].update(deadline_s=9), "presto, deadline_s"),
        (lambda document: document["evidence"]["engines"]["spark"].pop("reason"), "evidence, engines, spark, reason"),
        (lambda document: document["workloads"]["reasons"].pop("fails_within_s"), "fails_within_s has no reason"),
        (lambda document: document["workloads"].update(progress_ratio_min=1.1), "workloads, progress_ratio_min"),
        (lambda document: document.pop("recovery"), "recovery"),
        (lambda document: document.update(promises=[]), "promises"),
    ],
)  # fmt: skip
def test_a_contract_that_makes_no_sense_is_refused_in_one_sentence(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], place: str
) -> None:
    """The sentence names the file and the place in it."""
    path = changed(tmp_path / "odd.yaml", change)
    with pytest.raises(UsageError) as raised:
        load_contract(path)
    assert str(path) in str(raised.value)
    assert place in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"a: [b", b"just text", b"\xff\xfe\x00", None])
def test_a_file_that_is_no_contract_is_refused_in_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    """Broken YAML, other content, no text, and no file at all."""
    path = tmp_path / "odd.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"odd\.yaml") as raised:
        load_contract(path)
    assert "\n" not in str(raised.value)
