"""The promises that an experiment exercises, as probes of its hypothesis: the file says what it asserts."""

from __future__ import annotations

from gameday.session import current

NOT_JUDGED_YET = "not judged yet"


def verdict(promise: str) -> str:
    """Return the verdict of a promise from what was recorded so far; before the method that is "not judged yet"."""
    return current().verdict_of(promise)
