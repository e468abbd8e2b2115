"""Whose cores the machine's were: what the region's containers got each second, the harness itself, and others.

All zones of a region share the cores of one machine here, as no zones of a cloud do. What other programs take of them,
or other machines of the same host, is no doing of the lakehouse; so it is written down beside what clients saw.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from gameday.errors import HarnessError
from gameday.session import Session
from gameday.timeline import now

EVERY_S = 1.0
_CGROUPS, _PROCESSES = Path("/sys/fs/cgroup"), Path("/proc")
# A container's cgroup has its identifier in its name, whatever the engine; what is below it belongs to it as well.
_OF_A_CONTAINER = re.compile(r"^.*?[0-9a-f]{64}[^/]*")
_ENDS_S = 5.0


@dataclass(frozen=True, slots=True)
class Cores:
    """CPU seconds since the machine began (`busy`, `stolen`, `idle`) or its processes did (`region`, `harness`).

    `busy` is what processes ran for; interrupts, which are nobody's, are left out. `mono` is in seconds.
    """

    mono: float
    busy: float
    stolen: float
    idle: float
    region: Mapping[str, float]
    harness: float


def cgroup_files(pids: Iterable[int]) -> list[Path]:
    """Return where the kernel tells the CPU time of the containers that these processes are the first of.

    Raises HarnessError where it does not, as on a machine whose containers run in another one.
    """
    found = []
    for pid in pids:
        try:
            lines = (_PROCESSES / str(pid) / "cgroup").read_text().splitlines()
        except OSError as error:
            raise HarnessError(f"the cgroup of process {pid} cannot be read: {error.strerror}") from error
        of_controller = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
        accounting = next((names for names in of_controller if "cpuacct" in names.split(",")), "")
        within = _OF_A_CONTAINER.match(of_controller.get(accounting, ""))
        file = "cpuacct.usage" if accounting else "cpu.stat"
        path = _CGROUPS / accounting / (within.group().lstrip("/") if within else "none") / file
        if not path.exists():
            raise HarnessError(f"the CPU time of process {pid} and of its container is not told in {path}")
        found.append(path)
    return found


def used_s(file: Path) -> float:
    """Return the CPU seconds of a cgroup; raises OSError or ValueError where it is gone."""
    said = file.read_text()
    if file.name == "cpuacct.usage":
        return int(said) / 1e9
    return int(dict(line.split() for line in said.splitlines())["usage_usec"]) / 1e6


def look(files: Iterable[Path]) -> Cores:
    """Read all of it once; a container that is gone is left out."""
    region = {}
    for file in files:
        with suppress(OSError, ValueError, KeyError):
            region[str(file)] = used_s(file)
    times = psutil.cpu_times()
    return Cores(
        mono=now()[1],
        busy=times.user + times.nice + times.system,
        stolen=times.steal,
        idle=times.idle + times.iowait,
        region=region,
        harness=_used_by_harness_s(),
    )


def between(before: Cores, after: Cores) -> dict[str, float] | None:
    """Return how many cores each had in the time between, and `seconds`, its length.

    None where a container began or ended in it: what it used until then is not told.
    """
    if before.region.keys() != after.region.keys():
        return None
    seconds = after.mono - before.mono
    used = [after.region[name] - before.region[name] for name in before.region]
    if min(used, default=0.0) < 0:
        return None
    region, harness = sum(used), max(after.harness - before.harness, 0.0)
    spent = {
        "region": region,
        "harness": harness,
        # less than none where one was read a little later than the other: the next second has it too much
        "others": after.busy - before.busy - region - harness,
        "stolen": after.stolen - before.stolen,
        "idle": after.idle - before.idle,
    }
    return {"seconds": round(seconds, 3), **{name: round(value / seconds, 3) for name, value in spent.items()}}


class MachineWatch:
    """Writes an event `machine` a second to the timeline, in a thread of its own, from `start` until `stop`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch; where the machine does not tell, that is written down instead."""
        session = self._session
        containers = (*session.region.nodes(session.engine), *session.region.services(session.engine))
        try:
            files = cgroup_files(item.pid for item in containers if item.running)
        except HarnessError as error:
            session.timeline.append("machine.unwatched", "harness", reason=str(error))
            return
        self._thread = threading.Thread(target=self._watch, args=(files,), daemon=True, name="machine")
        self._thread.start()

    def stop(self) -> None:
        """End the watch, and wait until nothing more is written."""
        self._ended.set()
        if self._thread:
            self._thread.join(_ENDS_S)

    def _watch(self, files: list[Path]) -> None:
        try:
            before = look(files)
            while not self._ended.wait(EVERY_S):
                after = look(files)
                if told := between(before, after):
                    self._session.timeline.append("machine", "harness", **told)
                before = after
        except Exception as error:  # noqa: BLE001 - a thread that dies in silence would leave holes nobody knows of
            with suppress(OSError):
                self._session.timeline.append("machine.unwatched", "harness", reason=repr(error))


def _used_by_harness_s() -> float:
    """Return the CPU seconds of this process and of all below it, those that ended and were waited for as well."""
    own = psutil.Process()
    below: list[psutil.Process] = []
    with suppress(psutil.Error, OSError):
        below = own.children(recursive=True)
    total = 0.0
    for process in (own, *below):
        with suppress(psutil.Error, OSError):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
