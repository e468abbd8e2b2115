"""What says that a machine which lost its power is usable again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from kubernetes import client

from faults.zone_power import reported_since

STARTED = datetime(2026, 11, 29, 15, 53, 35, tzinfo=UTC)


@pytest.mark.parametrize(("after_s", "reported"), [(-1, False), (0, True), (300, True), (None, False)])
def test_a_report_in_the_second_of_the_start_is_one(after_s: int | None, *, reported: bool) -> None:
    """The next would come in five minutes; one of the second before is the lost kubelet's."""
    told = [] if after_s is None else [client.V1NodeCondition(type="Ready", status="True")]
    for condition in told:
        condition.last_heartbeat_time = STARTED + timedelta(seconds=after_s or 0)
    node = client.V1Node(status=client.V1NodeStatus(conditions=told))
    assert reported_since(node, STARTED) is reported
