"""The session of one run: what faults, probes and runbooks need to know, opened once a process.

Chaos Toolkit calls plain functions with the arguments that stand in an experiment; the region, the run folder and the
timeline reach them by `current()`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes import client

from gameday.engine import Container, Engine
from gameday.errors import DeadlinePassed, HarnessError, UsageError
from gameday.paths import CONTRACT
from gameday.regions import Region
from gameday.timeline import Timeline
from gameday.topology import ZONE_LABEL, Topology
from gameday.waiting import wait_until


def _silent(awaited: str, deadline_s: float, seen: str) -> None:
    """Tell nobody: what is awaited is shown where a progress display is set."""


def _no_judge(promise: str) -> str:
    raise HarnessError(f"promise {promise} cannot be judged: no run has set a judge")


@dataclass
class Session:
    """One run: region, folder, timeline, and the handles to reach the lakehouse."""

    region: Region
    engine: Engine
    api: client.ApiClient
    topology: Topology
    folder: Path
    timeline: Timeline
    endpoints: dict[str, str] = field(default_factory=dict)
    contract: Path = CONTRACT
    awaiting: Callable[[str, float, str], None] = _silent
    verdict_of: Callable[[str], str] = _no_judge
    # the load processes while they run, by engine; of a layer above, so they have no type here
    loads: dict[str, Any] = field(default_factory=dict)

    @property
    def core(self) -> client.CoreV1Api:
        """The core API of the region's Kubernetes."""
        return client.CoreV1Api(self.api)

    def machines(self, zones: list[str]) -> list[Container]:
        """Return the node containers of zones, by the topology; raises UsageError for an unknown zone.

        The engine is asked and not the API server: the Node object of a dead machine may be gone.
        """
        unknown = [zone for zone in zones if zone not in self.topology.zones]
        if unknown or not zones:
            known = ", ".join(self.topology.zones)
            raise UsageError(f"unknown zone {unknown[0]!r}: the zones are {known}" if unknown else "no zone is named")
        workers = [node for node in self.topology.config["nodes"] if node.get("role") == "worker"]
        wanted = [number for number, node in enumerate(workers) if node["labels"][ZONE_LABEL] in zones]
        # kind numbers its workers in the order of its configuration: worker, worker2, worker3 …
        names = [f"{self.region.cluster}-worker{number + 1 if number else ''}" for number in wanted]
        found = {item.name: item for item in self.region.nodes(self.engine)}
        missing = [name for name in names if name not in found]
        if missing or not names:
            raise HarnessError(f"zones {', '.join(zones)}: there is no machine {', '.join(missing) or 'at all'}")
        return [found[name] for name in names]

    def wait(self, awaited: str, look: Callable[[], str | None], deadline_s: float, every_s: float = 0.5) -> None:
        """Wait as `wait_until` does, and show what is awaited; raises DeadlinePassed."""
        wait_until(
            awaited,
            look,
            deadline_s=deadline_s,
            every_s=every_s,
            tell=lambda seen: self.awaiting(awaited, deadline_s, seen),
        )

    def waited(self, awaited: str, look: Callable[[], str | None], deadline_s: float) -> bool:
        """Wait for what may rightly never come: False, and a line on the timeline, when it did not in time."""
        try:
            self.wait(awaited, look, deadline_s)
        except DeadlinePassed as error:
            self.timeline.append("await.passed", "harness", awaited=awaited, deadline_s=deadline_s, seen=error.seen)
            return False
        return True


_open: list[Session] = []


def current() -> Session:
    """Return the session of this process; raises HarnessError where none is open."""
    if not _open:
        raise HarnessError("no run is open: experiments of the lakehouse are run by `chaos run`, which opens one")
    return _open[-1]


def enter(session: Session) -> None:
    """Make a session the current one."""
    _open.append(session)


def leave() -> None:
    """Close the current session."""
    _open.pop().timeline.close()


def event_fields(zones: list[str], machines: list[Container]) -> dict[str, Any]:
    """Return the fields that say on the timeline what a fault is aimed at."""
    return {"zones": list(zones), "nodes": [machine.name for machine in machines]}
