"""How the provider's services are told of the declared hour: by a file, which each schedule reads at each turn."""

from __future__ import annotations

from gameday.engine import Engine
from gameday.errors import UsageError

# The provider's services that do something every hour.
HOURLY = ("postgres", "customer-copy")

# A file is there whole or not at all, as it may be read at any moment.
_WRITE = (
    'mkdir -p /etc/lakehouse && cd /etc/lakehouse && echo "$1" > hour-seconds.new && mv hour-seconds.new hour-seconds'
)


def set_hour(engine: Engine, container: str, hour_s: float) -> None:
    """Declare how long an hour is, in whole seconds, to a running service; it follows within a few seconds.

    Raises UsageError for less than a second, HarnessError where the container does not run.
    """
    if hour_s < 1:
        raise UsageError(f"an hour of {hour_s} s is too short: it has one second at least")
    engine.call("exec", container, "sh", "-c", _WRITE, "sh", f"{hour_s:.0f}")
