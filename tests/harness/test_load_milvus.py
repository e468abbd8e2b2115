"""The load of Milvus against the stand-in: its rate, its ledger, and what it takes for a failure."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from builders import BEGAN_MONO, INJECTING_S, LOAD_END_S, SyntheticRun, project_contract
from milvus_lab import GROUP, Door, MilvusLab

from gameday.errors import HarnessError
from gameday.judge import Verdict
from gameday.records import LedgerEntry, ReadBack, read_ledger, read_requests, read_workloads
from loadgen import milvus_readback
from loadgen.milvus_long import PATIENCE_S
from loadgen.milvus_readback import drop_collections, read_back_milvus
from loadgen.process import Load
from loadgen.schedule import ARRIVALS_PER_S, declared_rates
from probes.milvus import searches

pytestmark = [GROUP, pytest.mark.needs("milvus")]


def run_load(lab: MilvusLab, folder: Path, seconds: float) -> None:
    """Run the declared load against the first replica for so long."""
    load = Load("milvus", f"http://127.0.0.1:{lab.ports['one']}", folder, arrivals_per_s=ARRIVALS_PER_S["milvus"])
    load.start()
    try:
        load.wait_ready(60)
        time.sleep(seconds)
    finally:
        load.stop(20)


def test_the_load_keeps_its_rate_and_finds_what_it_wrote(lab: MilvusLab, tmp_path: Path) -> None:
    """Every operation of the cycle succeeds, and the read-back has every row and partition that was acknowledged."""
    run_load(lab, tmp_path, 8)
    requests = read_requests(tmp_path)
    assert {one.outcome for one in requests} == {"ok"}, {one.error for one in requests}
    assert {one.operation for one in requests} == set(declared_rates("milvus", 1))
    due = [one.intended for one in requests]
    assert len(requests) == pytest.approx((max(due) - min(due)) * ARRIVALS_PER_S["milvus"], abs=2)
    ledger = read_ledger(tmp_path)
    acknowledged = {(entry.place, entry.item) for entry in ledger if entry.state == "acknowledged"}
    found = read_back_milvus(f"http://127.0.0.1:{lab.ports['two']}", ledger, deadline_s=20)
    assert not [one.error for one in found if one.error]
    assert len(found) == 2
    assert acknowledged <= {(one.place, item) for one in found for item in one.items}
    assert len([one for one in acknowledged if "partitions" not in one[0]]) > 8
    # as long as something is missing, it stays to be looked at
    client = lab.client("two")
    mine = {one.place.partition("/")[0] for one in found}
    drop_collections(f"http://127.0.0.1:{lab.ports['two']}", ledger, found[:1])
    assert mine <= set(client.list_collections())
    drop_collections(f"http://127.0.0.1:{lab.ports['two']}", ledger, found)
    left = set(client.list_collections())
    assert not [name for name in left if name.partition("_")[2] in {one.partition("_")[2] for one in mine}]


def test_a_log_that_takes_nothing_fails_writes_and_they_are_not_acknowledged(lab: MilvusLab, tmp_path: Path) -> None:
    """What failed is an error with its reason, and unknown in the ledger."""
    load = Load("milvus", f"http://127.0.0.1:{lab.ports['one']}", tmp_path, arrivals_per_s=ARRIVALS_PER_S["milvus"])
    load.start()
    try:
        load.wait_ready(60)
        lab.processes["kafka"].send_signal(signal.SIGSTOP)
        time.sleep(8)
    finally:
        lab.processes["kafka"].send_signal(signal.SIGCONT)
        load.stop(20)
    # an insert asks for the collection's schema first, which waits; a partition is made at once, or not
    writes = ("insert", "create_partition")
    failed = [one for one in read_requests(tmp_path) if one.operation in writes and one.outcome != "ok"]
    assert failed
    assert any("log" in str(one.error) for one in failed), {one.error for one in failed}
    states = {entry.item: entry.state for entry in read_ledger(tmp_path)}
    assert "unknown" in states.values()


def test_long_searches_are_in_flight_and_fail_with_their_replica(lab: MilvusLab, tmp_path: Path) -> None:
    """Accepted, with the replica's own name, and ended by its death at once; no retry of the client hides that."""
    lab.replica("three", flush_seconds="3600")
    lab.await_replica("three")
    address, rate = f"http://127.0.0.1:{lab.ports['three']}", ARRIVALS_PER_S["milvus"]
    load = Load("milvus", address, tmp_path, arrivals_per_s=rate, options=["--long-searches", "4"])
    load.start()
    try:
        load.wait_ready(60)
        before = read_workloads(tmp_path)
        # the first ones wait for 6, 11, 16 and 21 s, so that one has ended and another has taken its place
        time.sleep(8)
        killed = time.monotonic()
        lab.end("three")
        time.sleep(2)
    finally:
        load.stop(20)
    searches = read_workloads(tmp_path)
    assert len([one for one in before if one.last.state == "accepted"]) == 4
    assert {(one.kind, one.detail("replica")) for one in before} == {("long_search", "three")}
    ended = {state: [one for one in searches if one.last.state == state] for state in ("succeeded", "failed")}
    assert len(ended["succeeded"]) == 1
    failed = [one for one in ended["failed"] if one.at("accepted")]
    assert len(failed) == 4
    for one in failed:
        assert (one.last.error_code, str(one.last.error)[:11]) == (14, "UNAVAILABLE")
        assert 0 <= one.last.mono - killed < 2


def test_clients_that_are_refused_come_again_soon(lab: MilvusLab, tmp_path: Path) -> None:
    """After ten seconds without Milvus each tries as often as at first."""
    door = Door(lab.ports["one"])
    address, options = f"http://127.0.0.1:{door.port}", ["--long-searches", "0"]
    load = Load("milvus", address, tmp_path, arrivals_per_s=ARRIVALS_PER_S["milvus"], options=options)
    load.start()
    try:
        load.wait_ready(60)
        door.slam()
        time.sleep(12)
        late = [moment for moment in door.tried if moment > door.tried[-1] - 6]
        door.close()
    finally:
        load.stop(20)
    # gRPC's fifth attempt would come 4.1 s after the fourth, and the next 6.6 s later, give or take a fifth
    assert len(late) > 12, door.tried
    assert max(after - before for before, after in pairwise(late)) < 2, door.tried


REFUSES = """
from lakehouse.milvus.engine import failed
from lakehouse.milvus.servicer import ReplicaServicer
ReplicaServicer.CreatePartition = lambda self, request, context: failed("CreatePartition", "no partition today")
"""


def test_the_load_sees_every_replica(lab: MilvusLab, tmp_path: Path) -> None:
    """Behind a load balancer, one that makes no partitions fails as many of them as it is given."""
    lab.replica("refuses", sabotage=REFUSES, flush_seconds="3600")
    lab.await_replica("refuses")
    door = Door(lab.ports["one"], lab.ports["refuses"])
    address, options = f"http://127.0.0.1:{door.port}", ["--long-searches", "0"]
    load = Load("milvus", address, tmp_path, arrivals_per_s=10, options=options)
    load.start()
    try:
        load.wait_ready(60)
        time.sleep(12)
    finally:
        load.stop(20)
        door.close()
        lab.end("refuses")
    made = [one for one in read_requests(tmp_path) if one.operation == "create_partition"]
    refused = [one for one in made if "no partition today" in (one.error or "")]
    assert len(made) > 8
    # the load balancer gave it every second connection, three of seven
    assert 0.3 < len(refused) / len(made) < 0.6


LIES = """
from lakehouse.milvus.engine import failed
from lakehouse.milvus.health import Health
from lakehouse.milvus.servicer import ReplicaServicer
Health.problem = lambda self: None
ReplicaServicer.Search = lambda self, request, context: failed("Search", "no search today")
"""


def test_a_health_page_that_says_yes_while_search_fails_is_caught(lab: MilvusLab, tmp_path: Path) -> None:
    """The probe of the hypothesis searches by itself, and a load does not begin: nothing is broken, or judged."""
    client = lab.client("one")
    client.create_collection("looked_at", dimension=4)
    lab.replica("liar", sabotage=LIES, flush_seconds="3600")
    lab.await_replica("liar")
    try:
        assert searches(f"http://127.0.0.1:{lab.ports['one']}")
        assert lab.health("liar") is None
        assert not searches(f"http://127.0.0.1:{lab.ports['liar']}")
        load = Load("milvus", f"http://127.0.0.1:{lab.ports['liar']}", tmp_path, arrivals_per_s=1.0)
        load.start()
        with pytest.raises(HarnessError, match="no search today"):
            load.wait_ready(60)
    finally:
        lab.end("liar")
        client.drop_collection("looked_at")


EARLY = """
from threading import Timer
from lakehouse.milvus.replica import Replica
def write(self, method, request):
    Timer(3.0, self._log.append, [method, request.SerializeToString(), self.engine.snapshot.revision, ""]).start()
    return self.engine.call(method, request)
Replica.write = write
"""


def test_rows_acknowledged_before_they_are_in_the_log_are_found_lost(lab: MilvusLab, tmp_path: Path) -> None:
    """The replica dies with what it had not written yet, and the ledger of its clients says what that was."""
    lab.replica("early", sabotage=EARLY, flush_seconds="3600")
    lab.await_replica("early")
    load = Load("milvus", f"http://127.0.0.1:{lab.ports['early']}", tmp_path, arrivals_per_s=ARRIVALS_PER_S["milvus"])
    load.start()
    try:
        load.wait_ready(60)
        time.sleep(6)
        lab.end("early")
    finally:
        load.stop(20)
    ledger = read_ledger(tmp_path)
    found = read_back_milvus(f"http://127.0.0.1:{lab.ports['two']}", ledger, deadline_s=20)
    verdict = judged_with(tmp_path / "run", ledger, found)
    assert verdict.verdict == "broken"
    assert "acknowledged writes are lost" in verdict.reason
    # one and a quarter a second, of the last 3 s
    rows = [one for one in verdict.evidence["rpo"]["milvus"]["lost_items"] if "partitions" not in one["item"]]
    assert 2 <= len(rows) <= 5


def judged_with(folder: Path, ledger: list[LedgerEntry], found: list[ReadBack]) -> Verdict:
    """Return the verdict on a run in which all was well but for these writes and what was read back of them."""
    run = SyntheticRun(folder, "S5.milvus.active-active", engines=("milvus",))
    run.milvus()
    run.ledger = [replace(one, mono=BEGAN_MONO + INJECTING_S) for one in ledger]
    run.read_back = [replace(one, mono=BEGAN_MONO + LOAD_END_S + 1) for one in found]
    return run.judged()


def test_an_answer_that_did_not_come_in_time_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pymilvus hands gRPC's own error on then."""
    answers = iter([Late(), ["1", "2"]])

    def items(_url: str, _place: str) -> list[str]:
        answer = next(answers)
        if isinstance(answer, Late):
            raise answer
        return answer

    monkeypatch.setattr(milvus_readback, "_items", items)
    ledger = [LedgerEntry("milvus", "growing_1", "1", "acknowledged", 1.0, 0.0)]
    (found,) = read_back_milvus("http://127.0.0.1:1", ledger, deadline_s=10)
    assert (found.items, found.error) == (["1", "2"], None)


class Late(grpc.RpcError):
    """What gRPC raises when a deadline passes."""


def test_a_client_waits_longer_than_a_search_may_take_to_fail() -> None:
    """Or a search that nobody fails would end by its client's own deadline, and in time."""
    assert project_contract().workloads.fails_within_s < PATIENCE_S
