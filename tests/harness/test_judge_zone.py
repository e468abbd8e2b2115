"""What Kubernetes did with the pods of a lost zone, judged: room for them, and back with nobody acting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import BEGAN_MONO, HEALING_S, INJECTING_S, MIB, SyntheticRun

NO_ROOM = "0/4 nodes are available: 2 Insufficient memory."
NO_LEAVE = "0/4 nodes are available: 2 node(s) didn't match pod topology spread constraints."


@pytest.fixture
def capacity(tmp_path: Path) -> SyntheticRun:
    """A run in which the remaining zones have room for the lost pod."""
    return SyntheticRun(tmp_path / "run", "S5.all.capacity")


@pytest.fixture
def rescheduled(tmp_path: Path) -> SyntheticRun:
    """A run in which the lost pod is back in another zone 20 s after the fault."""
    return SyntheticRun(tmp_path / "run", "S5.all.rescheduled")


def event(run: SyntheticRun, kind: str) -> dict[str, Any]:
    """Return the only event of a kind, to be changed."""
    (found,) = [event for event in run.events if event["kind"] == kind]
    return found


def assign(run: SyntheticRun, name: str, zone: str, memory_mib: int, **fields: object) -> None:
    """Let one more pod have been there before the fault."""
    pod = {"name": name, "uid": name, "node": f"eu-{zone}", "zone": zone, "cpu_millis": 100, "daemon": False}
    event(run, "capacity")["assigned"].append({**pod, "memory_bytes": memory_mib * MIB, "formation": None, **fields})


def test_capacity_holds_where_the_lost_pods_fit(capacity: SyntheticRun) -> None:
    """The arithmetic is shown for each remaining zone; a node that takes no pods is none of them."""
    verdict = capacity.judged()
    assert verdict.verdict == "held"
    assert verdict.figure == (
        "pods lost: 1, asking 100m CPU, 384 MiB; free: zone-b 900m CPU, 640 MiB, room for 9, takes 1; "
        "zone-c 900m CPU, 640 MiB, room for 9, takes 0"
    )
    assert verdict.evidence["placed"] == {"eu-zone-b": ["mds-zone-a"], "eu-zone-c": []}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"memory_bytes": 768 * MIB}, "held"),
        ({"memory_bytes": 768 * MIB - 1}, "broken"),
        ({"cpu_millis": 199}, "broken"),
        ({"pods": 1}, "broken"),
    ],
)
def test_capacity_is_arithmetic_on_each_resource(capacity: SyntheticRun, change: dict[str, int], word: str) -> None:
    """A byte, a thousandth of a CPU or a pod too few on each node of the other zones breaks it."""
    for node in event(capacity, "capacity")["nodes"]:
        node.update(change)
    assert capacity.judged().verdict == word


def test_capacity_is_of_single_nodes_not_of_their_sum(capacity: SyntheticRun) -> None:
    """Two halves of the room that a pod needs are no room."""
    assign(capacity, "big-b", "zone-b", 400)
    assign(capacity, "big-c", "zone-c", 400)
    verdict = capacity.judged()
    assert verdict.verdict == "broken"
    assert verdict.evidence["without_room"] == ["mds-zone-a"]
    assert verdict.reason == "1 of 1 lost pods do not fit."


def test_capacity_places_the_largest_pods_first(capacity: SyntheticRun) -> None:
    """Three more pods of another formation fit beside that of MDS only in that order."""
    for name, memory_mib in (("s-1", 250), ("s-2", 250), ("l-1", 390)):
        assign(capacity, name, "zone-a", memory_mib, formation="other")
    verdict = capacity.judged()
    assert verdict.verdict == "held"
    assert verdict.evidence["placed"] == {"eu-zone-b": ["l-1", "s-1"], "eu-zone-c": ["mds-zone-a", "s-2"]}


def test_capacity_is_there_if_any_way_to_place_the_pods_is(capacity: SyntheticRun) -> None:
    """Twice 256 + 192 + 192 MiB is what two nodes have; with both large ones on one node the last has no room."""
    lost = next(pod for pod in event(capacity, "capacity")["assigned"] if pod["name"] == "mds-zone-a")
    lost["memory_bytes"] = 256 * MIB
    for name, memory_mib in (("l-2", 256), ("s-1", 192), ("s-2", 192), ("s-3", 192), ("s-4", 192)):
        assign(capacity, name, "zone-a", memory_mib, formation="other")
    verdict = capacity.judged()
    assert verdict.verdict == "held", verdict.reason
    assert sorted(len(pods) for pods in verdict.evidence["placed"].values()) == [3, 3]
    assign(capacity, "s-5", "zone-a", 1, formation="other")
    capacity.folder = capacity.folder.with_name("again")
    assert capacity.judged().verdict == "broken"


def test_capacity_leaves_out_what_never_moves(capacity: SyntheticRun) -> None:
    """Pods of DaemonSets are lost with their node, and pods of no formation are not promised."""
    assign(capacity, "router", "zone-a", 900, formation="mds", daemon=True)
    assign(capacity, "helper", "zone-a", 900)
    assert capacity.judged().verdict == "held"


def test_a_node_that_takes_no_pods_is_no_capacity(capacity: SyntheticRun) -> None:
    """Cordoned, tainted or NotReady nodes were no room before the fault."""
    for node in event(capacity, "capacity")["nodes"]:
        node["usable"] = False
    verdict = capacity.judged()
    assert verdict.verdict == "broken"
    assert "no usable node in another zone" in verdict.figure


@pytest.mark.parametrize(
    ("message", "until_s", "word"),
    [(NO_ROOM, 160, "broken"), (NO_ROOM, 75, "inconclusive"), (NO_LEAVE, 160, "held")],
)
def test_a_pod_that_finds_no_room_until_the_deadline_breaks_capacity(
    tmp_path: Path, message: str, until_s: float, word: str
) -> None:
    """Not if only the rules of spreading keep it waiting, and openly so if the fault ended before the deadline."""
    run = SyntheticRun(tmp_path / "run", "S5.all.capacity")
    run.without("pod", name="mds-new")
    run.pod(46, "mds-new", None, ready=False, unschedulable=message)
    run.prolong(until_s)
    assert run.judged().verdict == word


def test_capacity_that_was_not_read_before_the_fault_is_inconclusive(capacity: SyntheticRun) -> None:
    """What was read later shows the lost pods gone."""
    capacity.move("capacity", INJECTING_S + 1)
    assert capacity.judged().verdict == "inconclusive"


def test_a_zone_without_pods_of_formations_says_nothing_of_capacity(capacity: SyntheticRun) -> None:
    """Nothing had to be taken in."""
    for pod in event(capacity, "capacity")["assigned"]:
        pod["formation"] = None
    assert capacity.judged().verdict == "inconclusive"


def test_a_pod_that_is_back_in_another_zone_holds_rescheduled(rescheduled: SyntheticRun) -> None:
    """The time is the figure, and who acted stands in the evidence."""
    verdict = rescheduled.judged()
    assert verdict.verdict == "held"
    assert verdict.figure == "pods lost: 1; mds whole again after 20.0 s"
    assert verdict.evidence["replacements"] == [
        {"name": "mds-new", "formation": "mds", "node": "eu-zone-c", "zone": "zone-c"}
    ]
    assert verdict.evidence["provider_acts"] == [{"act": "node-removed", "node": "eu-zone-a"}]


@pytest.mark.parametrize("actor", ["sre", "customer"])
def test_a_step_before_the_last_pod_is_back_breaks_rescheduled(rescheduled: SyntheticRun, actor: str) -> None:
    """Whoever took it."""
    rescheduled.add(40, "runbook.step.begin", actor, step="scale by hand")
    verdict = rescheduled.judged()
    assert verdict.verdict == "broken"
    assert "scale by hand" in verdict.reason


def test_a_step_after_the_last_pod_is_back_changes_nothing(rescheduled: SyntheticRun) -> None:
    """The pods were back by then."""
    rescheduled.add(51, "runbook.step.begin", "sre", step="look")
    assert rescheduled.judged().verdict == "held"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"ready": False}, "broken"),
        ({"zone": "zone-a", "node": "eu-zone-a"}, "broken"),
        ({"deleting": True}, "broken"),
        ({"formation": "other"}, "broken"),
        ({}, "held"),
    ],
)
def test_only_a_ready_pod_of_the_formation_in_a_healthy_zone_is_a_replacement(
    rescheduled: SyntheticRun, fields: dict[str, Any], word: str
) -> None:
    """At the deadline of 120 s after the fault nothing else counts."""
    rescheduled.without("pod", name="mds-new")
    rescheduled.pod(50, "mds-new", **{"zone": "zone-c", **fields})
    rescheduled.prolong(160)
    assert rescheduled.judged().verdict == word


def test_a_pod_that_was_there_before_is_no_replacement(rescheduled: SyntheticRun) -> None:
    """A fourth pod that only became ready was not rescheduled."""
    rescheduled.without("pod", name="mds-new")
    rescheduled.pod(20, "mds-new", "zone-c", ready=False)
    rescheduled.pod(50, "mds-new", "zone-c")
    rescheduled.prolong(160)
    assert rescheduled.judged().verdict == "broken"


def test_a_formation_is_whole_only_with_all_its_ready_pods(rescheduled: SyntheticRun) -> None:
    """A new pod beside another that stopped being ready leaves one missing, until that one is ready again."""
    rescheduled.pod(48, "mds-zone-b", "zone-b", ready=False)
    rescheduled.pod(60, "mds-zone-b", "zone-b")
    assert rescheduled.judged().figure == "pods lost: 1; mds whole again after 30.0 s"


def test_a_pod_that_is_back_after_the_deadline_breaks_rescheduled(rescheduled: SyntheticRun) -> None:
    """120 s after the fault is in time, later is not."""
    rescheduled.without("pod", name="mds-new")
    rescheduled.pod(INJECTING_S + 120.1, "mds-new", "zone-c")
    rescheduled.prolong(160)
    assert rescheduled.judged().verdict == "broken"


def test_a_zone_that_returned_before_the_pods_and_the_deadline_leaves_rescheduled_open(
    rescheduled: SyntheticRun,
) -> None:
    """The situation ended too early to tell."""
    rescheduled.without("pod", name="mds-new")
    rescheduled.pod(HEALING_S + 1, "mds-new", "zone-c")
    verdict = rescheduled.judged()
    assert verdict.verdict == "inconclusive"
    assert "45.0 s after the fault" in verdict.reason


def test_a_zone_without_ready_pods_says_nothing_of_rescheduling(rescheduled: SyntheticRun) -> None:
    """Nothing had to be rescheduled."""
    rescheduled.pod(20, "mds-zone-a", "zone-a", ready=False)
    assert rescheduled.judged().verdict == "inconclusive"


@pytest.mark.parametrize(("what", "at_s", "open_"), [("pods", 20, True), ("events", 20, False), ("pods", 121, False)])
def test_a_lost_watch_leaves_open_what_depends_on_pods(
    rescheduled: SyntheticRun, what: str, at_s: float, *, open_: bool
) -> None:
    """Not a watch of events, and not one lost after the fault."""
    rescheduled.add(at_s, "watch.lost", what=what, error="gone")
    for verdict in rescheduled.judged_on("S5.all.rescheduled", "S5.all.capacity", "S5.mds.one-zone"):
        assert (verdict.verdict == "inconclusive") == open_


def three_engines(run: SyntheticRun, promise: str) -> SyntheticRun:
    """Return a run on MDS, Presto and Spark under load, in which each loses something with zone-a."""
    run = SyntheticRun(run.folder, promise, engines=("mds", "presto", "spark"))
    run.presto()
    run.spark()
    return run


def test_pods_of_workloads_are_not_rescheduled_by_kubernetes(rescheduled: SyntheticRun) -> None:
    """Spark replaces those itself; the pods that a formation runs for good are judged one formation after the other."""
    run = three_engines(rescheduled, "S5.all.rescheduled")
    verdict = run.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure == "pods lost: 2; mds whole again after 20.0 s, presto whole again after 18.0 s"
    assert {pod["name"] for pod in verdict.evidence["replacements"]} == {"mds-new", "worker-new"}


def with_bound_pod(run: SyntheticRun) -> None:
    """Add a pod in the lost zone whose volume is there, and which waits for it once its node is gone."""
    shown = {"formation": "mds", "app": "store", "bound_to": "zone-a"}
    run.pod(0.5, "store-0", "zone-a", **shown)
    run.pod(50, "store-0", "zone-a", op="DELETED", ready=False, **shown)
    run.pod(51, "store-0", None, uid="uid-again", ready=False, unschedulable=NO_ROOM, **shown)


def test_a_pod_that_its_volume_binds_to_the_zone_is_not_rescheduled(rescheduled: SyntheticRun) -> None:
    """Nobody could start it elsewhere: it is told of, and not waited for."""
    with_bound_pod(rescheduled)
    rescheduled.prolong(160)
    verdict = rescheduled.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure == "pods lost: 1 and 1 that volumes bind to the lost zone; mds whole again after 20.0 s"
    assert [pod["name"] for pod in verdict.evidence["bound_to_the_zone"]] == ["store-0"]


@pytest.mark.parametrize("bound_to", [None, "zone-b"])
def test_a_pod_that_could_start_elsewhere_is_waited_for(rescheduled: SyntheticRun, bound_to: str | None) -> None:
    """With a volume of another zone it was never bound to the lost one."""
    rescheduled.pod(0.5, "store-0", "zone-a", app="store", bound_to=bound_to)
    rescheduled.prolong(160)
    assert rescheduled.judged().verdict == "broken"


def test_only_bound_pods_leave_rescheduled_open(rescheduled: SyntheticRun) -> None:
    """None had to be rescheduled then."""
    rescheduled.without("pod", name="mds-zone-a")
    with_bound_pod(rescheduled)
    verdict = rescheduled.judged()
    assert verdict.verdict == "inconclusive"
    assert "none had to be rescheduled" in verdict.reason


def test_capacity_leaves_out_what_no_other_zone_could_take(capacity: SyntheticRun) -> None:
    """Neither what a bound pod asks for nor that it waits is a lack of room."""
    assign(capacity, "store-0", "zone-a", 9999, formation="mds", bound_to="zone-a")
    with_bound_pod(capacity)
    capacity.prolong(160)
    verdict = capacity.judged()
    assert verdict.verdict == "held", verdict.reason
    assert verdict.figure.startswith("pods lost: 1,")
    assert verdict.evidence["bound_to_the_zone"] == ["store-0"]


def test_an_executor_is_no_replacement_of_a_formation_s_own_pod(rescheduled: SyntheticRun) -> None:
    """Nor is one missing from the formation that it works for."""
    run = three_engines(rescheduled, "S5.all.rescheduled")
    run.pod(0.5, "history", "zone-a", formation="spark")
    run.prolong(160)
    verdict = run.judged()
    assert verdict.verdict == "broken"
    assert verdict.reason == "Spark did not get its ready pods back within 120.0 s."


def test_one_formation_that_is_not_back_breaks_rescheduled(rescheduled: SyntheticRun) -> None:
    """Whichever it is."""
    run = three_engines(rescheduled, "S5.all.rescheduled")
    run.without("pod", name="worker-new")
    run.prolong(160)
    verdict = run.judged()
    assert verdict.verdict == "broken"
    assert verdict.reason == "Presto did not get its ready pods back within 120.0 s."


@pytest.mark.parametrize("engine", ["mds", "presto", "spark"])
def test_every_engine_must_be_under_its_load(rescheduled: SyntheticRun, engine: str) -> None:
    """One without it leaves the promises on all open."""
    run = three_engines(rescheduled, "S5.all.rescheduled")
    run.requests = [one for one in run.requests if one.engine != engine or one.intended < BEGAN_MONO + INJECTING_S]
    for verdict in run.judged_on("S5.all.capacity", "S5.all.rescheduled"):
        assert verdict.verdict == "inconclusive"
        assert f"no operation of {engine}" in verdict.reason.lower()


@pytest.mark.parametrize(("memory_mib", "word"), [(640, "held"), (641, "broken")])
def test_capacity_counts_the_pods_of_workloads_in(capacity: SyntheticRun, memory_mib: int, word: str) -> None:
    """They ask for room too, whether or not their formation is named."""
    assign(capacity, "executor", "zone-a", memory_mib, workload="job-1", role="executor", executor="1")
    verdict = capacity.judged()
    assert verdict.verdict == word
    assert verdict.figure.startswith("pods lost: 2,")


def test_an_executor_that_finds_no_room_breaks_capacity(capacity: SyntheticRun) -> None:
    """It waits at the deadline."""
    capacity.job_pod(46, "job-1", "9", None, ready=False, unschedulable=NO_ROOM, formation=None)
    capacity.prolong(160)
    assert capacity.judged().verdict == "broken"
