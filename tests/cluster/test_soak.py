"""`chaos soak` as its user meets it, for a few kills."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab import Lakehouse, chaos

from gameday.errors import ExitCode

# Milvus alone, so last of all: the other formations go when it comes.
pytestmark = [pytest.mark.cluster, pytest.mark.last]


def test_a_few_kills_lose_nothing(milvus_alone: Lakehouse, tmp_path: Path) -> None:
    """Every write that was acknowledged is read back once, and the figures are there for machines."""
    ran = chaos("soak", "--region", milvus_alone.region.name, "--kills", "5", "--runs", str(tmp_path), "--json")
    assert ran.code == ExitCode.HELD, ran.said
    found = json.loads(ran.stdout)
    assert sum(found["kills"].values()) == 5
    assert found["acknowledged"] > 5
    assert (found["lost"], found["doubled"], found["unexpected"], found["unread"]) == ([], [], [], [])
    assert ran.stderr.count("a write was acknowledged") == 5
