"""The control of every run: a method whose step failed goes no further, and the display knows the step.

Chaos Toolkit goes on with the next step when one raised, so an injection that failed would be followed by a minute of
observing nothing. What a control raises is swallowed, but for `InterruptExecution`.
"""

from __future__ import annotations

from typing import Any

from chaoslib.exceptions import InterruptExecution

from gameday.session import current

_healing = False


def before_activity_control(context: dict[str, Any], **_: object) -> None:
    """Show which step has begun."""
    current().awaiting(str(context["name"]), 0.0, "begun")


def after_activity_control(context: dict[str, Any], state: dict[str, Any], **_: object) -> None:
    """Stop the method when one of its actions failed; a failed rollback keeps no other from being tried."""
    if not _healing and context["type"] == "action" and state["status"] == "failed":
        raise InterruptExecution(
            f"the action {context['name']!r} failed, so the rest of the method would prove nothing"
        )


def before_rollback_control(**_: object) -> None:
    """Remember that what fails from here on is healing."""
    global _healing  # noqa: PLW0603 - Chaos Toolkit's controls are modules, and a module has no other state
    _healing = True
