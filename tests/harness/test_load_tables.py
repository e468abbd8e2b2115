"""How long a table takes part in the load."""

from __future__ import annotations

from pathlib import Path

import gevent
import pytest
from fake_catalogue import fake_catalogue

from gameday.records import Recorder, Request, read_requests
from gameday.timeline import now
from loadgen import mds
from loadgen.flights import Notebook
from loadgen.mds import ENGINE, MdsClients
from loadgen.schedule import CYCLES, operation

COMMIT = CYCLES[ENGINE].index("commit_snapshot")
CREATE = next(number for number in range(100) if operation(ENGINE, number) == "create_table")


def test_a_table_with_many_snapshots_gives_way_to_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table whose metadata has grown gets no more commits, as long as enough others are left; new ones take over."""
    monkeypatch.setattr(mds, "_TABLES", 12)
    monkeypatch.setattr(mds, "_SNAPSHOTS_MAX", 2)
    told: list[Request] = []
    with fake_catalogue() as (catalogue, url):
        recorder = Recorder(tmp_path, "test")
        clients = MdsClients(url, "load_x", Notebook(ENGINE, recorder, told.append, lambda _: None))
        clients.prepare()

        def arrive(number: int, times: int) -> list[int]:
            """Let arrivals come one after the other; return how many snapshots each table has then, in order."""
            for _ in range(times):
                before = len(told)
                clients.arrive(number, now()[1])
                with gevent.Timeout(5):
                    while len(told) == before:
                        gevent.sleep(0.001)
            return sorted(len(table["snapshots"]) for table in catalogue.tables.values())

        assert arrive(COMMIT, 12) == [1] * 12
        # five are retired with two snapshots each, so that seven are left: too few to do without another
        assert arrive(COMMIT, 12) == [2] * 12
        assert arrive(COMMIT, 14) == [2] * 5 + [4] * 7
        arrive(CREATE, 6)
        # six of the seven old ones give way to them after a last commit, and the new ones have their turn
        assert arrive(COMMIT, 13) == [1] * 6 + [2] * 5 + [5] * 7
        recorder.close()
    assert {request.outcome for request in read_requests(tmp_path)} == {"ok"}
