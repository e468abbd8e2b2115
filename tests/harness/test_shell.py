"""Programs that the harness runs: what is said of one that does not end in time."""

from __future__ import annotations

import sys

import pytest

from gameday.errors import DeadlinePassed
from gameday.shell import run


def test_what_did_not_end_is_named_and_not_recited() -> None:
    """A class path among its words can be pages long."""
    with pytest.raises(DeadlinePassed) as raised:
        run([sys.executable, "-c", "import time; time.sleep(60)", "x" * 20_000], deadline_s=0.1)
    assert sys.executable in str(raised.value)
    assert "still running" in str(raised.value)
    assert len(str(raised.value)) < 500
