"""The load of Milvus against the stand-in: its rate, its ledger, and what it takes for a failure."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from milvus_lab import GROUP, MilvusLab

from gameday.records import read_ledger, read_requests
from loadgen.milvus_readback import read_back_milvus
from loadgen.process import Load
from loadgen.schedule import ARRIVALS_PER_S, declared_rates

pytestmark = GROUP


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


def test_a_log_that_takes_nothing_fails_writes_and_they_are_not_acknowledged(lab: MilvusLab, tmp_path: Path) -> None:
    """What failed is an error with its reason, and unknown in the ledger."""
    load = Load("milvus", f"http://127.0.0.1:{lab.ports['one']}", tmp_path, arrivals_per_s=ARRIVALS_PER_S["milvus"])
    load.start()
    try:
        load.wait_ready(60)
        lab.processes["kafka"].send_signal(signal.SIGSTOP)
        time.sleep(14)
    finally:
        lab.processes["kafka"].send_signal(signal.SIGCONT)
        load.stop(20)
    failed = [one for one in read_requests(tmp_path) if one.operation == "insert" and one.outcome != "ok"]
    assert failed
    assert any("log" in str(one.error) for one in failed), {one.error for one in failed}
    states = {entry.item: entry.state for entry in read_ledger(tmp_path)}
    assert "unknown" in states.values()
