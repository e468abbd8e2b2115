"""The files of a run are read while load processes still write them."""

from __future__ import annotations

from pathlib import Path

from gameday.records import (
    LedgerEntry,
    ReadBack,
    RecentRequests,
    Recorder,
    Request,
    missing_writes,
    read_ledger,
    read_read_back,
    write_read_back,
)


def _request(ended: float) -> Request:
    return Request("mds", "load_table", ended - 0.1, ended - 0.1, ended, 0.0, "ok")


def test_what_ended_of_late_is_found_in_the_files_of_all_processes(tmp_path: Path) -> None:
    """What was written since the last look is there, once; what is too old is not, half a line is when it is whole."""
    requests = RecentRequests(tmp_path)
    assert requests.ended_since(0.0) == []
    first, second = Recorder(tmp_path, "1"), Recorder(tmp_path, "2")
    for recorder, ended in ((first, 1.0), (second, 2.0), (first, 3.0)):
        recorder.request(_request(ended))
    assert sorted(request.ended for request in requests.ended_since(1.5)) == [2.0, 3.0]
    line = (tmp_path / "requests-2.jsonl").read_text().splitlines()[0]
    with (tmp_path / "requests-3.jsonl").open("w") as half:
        half.write(line[:20])
        half.flush()
        second.request(_request(4.0))
        assert sorted(request.ended for request in requests.ended_since(3.0)) == [3.0, 4.0]
        half.write(f"{line[20:].replace('2.0', '5.0')}\n")
    assert sorted(request.ended for request in requests.ended_since(3.5)) == [4.0, 5.0]
    first.close()
    second.close()


def test_a_write_is_missing_where_it_was_acknowledged_and_not_found(tmp_path: Path) -> None:
    """In its own place, and readable; what was not acknowledged need not be there."""
    assert missing_writes([], []) == []
    recorder = Recorder(tmp_path, "1")
    for place, item, state in (
        ("a", "1", "acknowledged"),
        ("a", "2", "acknowledged"),
        ("a", "3", "unknown"),
        ("b", "1", "acknowledged"),
    ):
        recorder.ledger(LedgerEntry("mds", place, item, state, 1.0, 1.0))
    recorder.close()
    write_read_back(tmp_path, [ReadBack("mds", "a", ["1", "9"], 2.0, 2.0), ReadBack("mds", "b", [], 2.0, 2.0, "away")])
    assert missing_writes(read_ledger(tmp_path), read_read_back(tmp_path)) == ["a/2", "b/1"]
