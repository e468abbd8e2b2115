"""Waits on conditions: each has a deadline, and one that passes says what was awaited and what was seen."""

from __future__ import annotations

from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_delay, wait_fixed

from gameday.errors import DeadlinePassed


def wait_until(
    awaited: str,
    look: Callable[[], str | None],
    *,
    deadline_s: float,
    every_s: float = 0.5,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Wait until `look` returns None; what it returns else is what was seen, and is told at each change.

    Raises DeadlinePassed after `deadline_s` seconds. An exception of `look` ends the wait: what may be raised while one
    waits is for `look` to catch and to return as seen.
    """
    seen = ""

    def watch(state: RetryCallState) -> None:
        nonlocal seen
        latest = str(state.outcome.result()) if state.outcome else ""
        if tell and latest != seen:
            tell(latest)
        seen = latest

    def give_up(state: RetryCallState) -> None:
        last = state.outcome.result() if state.outcome else "nothing"
        raise DeadlinePassed(awaited, deadline_s, str(last))

    Retrying(
        stop=stop_after_delay(deadline_s),
        wait=wait_fixed(every_s),
        retry=retry_if_result(lambda result: result is not None),
        before_sleep=watch,
        retry_error_callback=give_up,
    )(look)
