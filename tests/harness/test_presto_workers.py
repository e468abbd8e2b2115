"""When Presto is whole: what its coordinator says of its workers, by the answers of a real one."""

from __future__ import annotations

import json
import math

import pytest
from fake_http import FakeService, served

from lakehouse.presto_formation import lacks, lacks_all

pytestmark = pytest.mark.needs("presto")

type Heard = tuple[float, float | None, float] | tuple[float, float | None, float, str]


class Coordinator(FakeService):
    """Says how many workers it takes to be active, and when it asked each and was answered (seconds of a minute).

    And which part of its requests failed of late, and for how long it is known.
    """

    def __init__(self, active: int, heard: list[Heard]) -> None:
        """Answer so."""
        super().__init__()
        self._active, self._heard = active, heard

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Answer as Presto 0.287 does."""
        assert (method, body) == ("GET", b"")
        if path == "/v1/cluster":
            return 200, json.dumps({"activeWorkers": self._active, "runningQueries": 0}).encode()
        assert path == "/v1/node"
        return 200, json.dumps([_node(number, *one) for number, one in enumerate(self._heard)]).encode()


def _node(
    number: int, asked_s: float, answered_s: float | None, failed: float, age: str = "1.63m"
) -> dict[str, object]:
    told: dict[str, object] = {"uri": f"http://10.244.0.{number}:8080/v1/status", "age": age}
    # of no requests it is none, which JSON has no number for
    told["recentFailureRatio"] = "NaN" if math.isnan(failed) else failed
    for name, second in (("lastRequestTime", asked_s), ("lastResponseTime", answered_s)):
        if second is not None:
            told[name] = f"2026-11-28T22:10:{second:06.3f}Z"
    return told


WELL = (8.877, 8.879, 0.0)


@pytest.mark.parametrize(
    ("active", "heard", "says"),
    [
        (3, [WELL, WELL, WELL], None),
        # it is asked once more, and was answered half a second ago
        (3, [WELL, WELL, (8.9, 8.4, 0.0)], None),
        # gone, not found to have failed yet, and the one in its place is not known
        (3, [WELL, WELL, (8.9, 6.1, 0.0)], "3 of 3 workers active, 2 answering"),
        (3, [WELL, WELL, (8.9, None, 0.0)], "3 of 3 workers active, 2 answering"),
        # gone for long and not asked any more, with another in its place
        (3, [WELL, WELL, WELL, (1.0, 1.0, 0.98)], None),
        (3, [WELL, WELL, (1.0, 1.0, 0.98), (1.2, 1.1, 0.0)], "3 of 3 workers active, 2 answering"),
        # gone in peace: its refusals count as responses for half a minute
        (3, [WELL, WELL, WELL, (8.877, 8.879, 0.84)], None),
        (3, [WELL, WELL, (8.877, 8.879, 0.46)], "3 of 3 workers active, 2 answering"),
        # one that failed once
        (3, [WELL, WELL, (8.877, 8.879, 0.05)], None),
        # one that was not asked of late
        (3, [WELL, WELL, (8.877, 8.879, math.nan)], "3 of 3 workers active, 2 answering"),
        # gone in peace and active still, while the one in its place has begun to answer and is not active yet
        (3, [WELL, WELL, (8.877, 8.879, 0.46), (8.877, 8.879, 0.0, "987.65ms")], "a worker known for 1 of 8 s"),
        (3, [WELL, WELL, (8.877, 8.879, 0.46), (8.877, 8.879, 0.0, "7.90s")], "a worker known for 8 of 8 s"),
        (3, [WELL, WELL, (8.877, 8.879, 0.46), (8.877, 8.879, 0.0, "8.01s")], None),
        (3, [WELL, (8.877, 8.879, 0.0, "2.01h"), (8.877, 8.879, 0.0, "1.50d")], None),
        (3, [WELL, WELL, (8.877, 8.879, 0.0, "soon")], "no answer (ValueError)"),
        (0, [], "0 of 3 workers active, 0 answering"),
        (2, [WELL, WELL, WELL], "2 of 3 workers active, 3 answering"),
    ],
)
def test_presto_is_whole_when_all_its_workers_answer(active: int, heard: list[Heard], says: str | None) -> None:
    """Those that the coordinator only takes to be there do not count."""
    with served(Coordinator(active, heard)) as url:
        assert lacks(url) == says


def test_a_coordinator_that_does_not_answer_is_not_whole() -> None:
    """Nor is one whose answer is none."""
    assert lacks("http://127.0.0.1:1") == "no answer (ConnectError)"


@pytest.mark.parametrize(("active", "says"), [(0, "no worker is active"), (1, None), (3, None)])
def test_presto_serves_somebody_with_its_first_worker(active: int, says: str | None) -> None:
    """A coordinator without any answers its check, and no query."""
    with served(Coordinator(active, [])) as url:
        assert lacks_all(url) == says
    assert lacks_all("http://127.0.0.1:1") == "no answer (ConnectError)"
