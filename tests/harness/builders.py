"""A synthetic run to be judged: healthy unless told otherwise, with times in seconds since its beginning."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from gameday.contract import Contract, load_contract
from gameday.judge import Verdict, judge
from gameday.paths import PROJECT
from gameday.records import LedgerEntry, LedgerState, ReadBack, Request, WorkloadState, WorkloadStep, write_read_back

BEGAN_MONO, BEGAN_WALL = 5000.0, 1_790_000_000.0
PER_S = 16
BASELINE_S = (1.0, 29.0)
CAPACITY_S, INJECTING_S, INJECTED_S, IN_EFFECT_S = 29.5, 30.0, 30.2, 31.0
HEALING_S, HEALED_S, LOAD_END_S, RUN_END_S = 75.0, 80.0, 120.0, 125.0
LATENCY_S = 0.05
# operations a second of each engine
RATES = {"mds": float(PER_S), "presto": 2.0, "spark": 2.0, "milvus": 5.0}
# operations in the order in which they are due; those of other engines are of no matter to their checkers
OPERATIONS = {"milvus": ("search", "describe_collection", "create_partition", "insert", "query")}
ZONES = ("zone-a", "zone-b", "zone-c")
MIB = 2**20
# asdict copies deeply, which takes most of the time of a test
REQUEST_FIELDS = [one.name for one in fields(Request)]


@cache
def project_contract() -> Contract:
    """Return the project's own contract, read once."""
    return load_contract(PROJECT / "contract.yaml")


def request(at_s: float, latency_s: float = LATENCY_S, **other: Any) -> Request:  # noqa: ANN401 - any field of a request
    """Return an operation that was due at `at_s` and succeeded after `latency_s`, but for `other`."""
    due = BEGAN_MONO + at_s
    usual = Request("mds", "load_table", due, due, due + latency_s, BEGAN_WALL + at_s, "ok", replica="mds-0")
    return replace(usual, **other)


@dataclass
class SyntheticRun:
    """A run in which `zones` are lost from 30 s to 75 s, of 120 s under load; nothing fails and nothing is lost.

    The pods of MDS are there; `presto` and `spark` add those of the other engines, and their workloads.
    """

    folder: Path
    promise: str
    zones: tuple[str, ...] = ("zone-a",)
    engines: tuple[str, ...] = ("mds",)
    requests: list[Request] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    read_back: list[ReadBack] = field(default_factory=list)
    workloads: list[WorkloadStep] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.requests = [
            request(number / RATES[engine], engine=engine, operation=names[number % len(names)])
            for engine in self.engines
            for names in [OPERATIONS.get(engine, ("load_table",))]
            for number in range(int(LOAD_END_S * RATES[engine]))
        ]
        for at_s in range(2, int(LOAD_END_S), 2):
            self.write("acknowledged", f"item-{at_s}", at_s)
        found = [entry.item for entry in self.ledger if entry.state == "acknowledged"]
        self.read_back = [ReadBack("mds", "table", found, BEGAN_MONO + LOAD_END_S + 1, BEGAN_WALL)]
        self._add_frame()
        self._add_cluster()

    def add(self, at_s: float, kind: str, actor: str | None = "harness", **fields: Any) -> None:  # noqa: ANN401 - JSON
        """Write an event on the timeline."""
        own = {"wall": BEGAN_WALL + at_s, "mono": BEGAN_MONO + at_s, "kind": kind, "actor": actor}
        self.events.append({**own, **fields})

    def without(self, kind: str, **fields: object) -> None:
        """Take the events of a kind that have these fields off the timeline."""
        self.events = [
            event
            for event in self.events
            if event["kind"] != kind or any(event.get(name) != value for name, value in fields.items())
        ]

    def move(self, kind: str, at_s: float) -> None:
        """Let the events of a kind happen at another time."""
        for event in self.events:
            if event["kind"] == kind:
                event["mono"] = BEGAN_MONO + at_s

    def alter(
        self,
        from_s: float,
        to_s: float,
        change: Callable[[Request], Request],
        count: int | None = None,
        engine: str | None = None,
    ) -> None:
        """Change the operations that were due in this time, or the first `count` of them, of all engines or of one."""
        chosen = [
            number
            for number, one in enumerate(self.requests)
            if from_s <= one.intended - BEGAN_MONO < to_s and engine in (None, one.engine)
        ]
        for number in chosen[:count]:
            self.requests[number] = change(self.requests[number])

    def fail(self, from_s: float, to_s: float, count: int | None = None, engine: str | None = None) -> None:
        """Let operations fail at once."""
        self.alter(from_s, to_s, lambda one: replace(one, outcome="error", error="HTTP 503"), count, engine)

    def slow(
        self, from_s: float, to_s: float, latency_s: float, count: int | None = None, engine: str | None = None
    ) -> None:
        """Let operations succeed late."""
        self.alter(from_s, to_s, lambda one: replace(one, ended=one.intended + latency_s), count, engine)

    def prolong(self, healing_s: float) -> None:
        """Let the fault, and the load with it, last longer: the load until 240 s."""
        self.requests += [
            replace(one, intended=one.intended + 120, started=one.started + 120, ended=one.ended + 120)
            for one in self.requests
        ]
        for kind, at_s in (
            ("fault.still_in_effect", healing_s - 0.1),
            ("fault.healing", healing_s),
            ("fault.healed", healing_s + 5),
            ("load.end", 240),
            ("run.end", 245),
        ):
            self.move(kind, at_s)

    def write(self, state: LedgerState, item: str, at_s: float) -> None:
        """Write a step of a write into the ledger, and before any other that it was attempted."""
        mono, wall = BEGAN_MONO + at_s, BEGAN_WALL + at_s
        self.ledger.append(LedgerEntry("mds", "table", item, "attempted", mono - 0.1, wall - 0.1))
        self.ledger.append(LedgerEntry("mds", "table", item, state, mono, wall))

    def lose(self, *items: str) -> None:
        """Let items be missing when the ledger is read back."""
        self.read_back = [
            replace(one, items=[item for item in one.items if item not in items]) for one in self.read_back
        ]

    def pod(self, at_s: float, name: str, zone: str | None, **fields: Any) -> None:  # noqa: ANN401 - JSON values
        """Write what was seen of a pod of MDS."""
        node = f"eu-{zone}" if zone else None
        usual = {
            "op": "MODIFIED", "namespace": "lakehouse", "name": name, "uid": f"uid-{name}", "app": "mds", "node": node,
            "zone": zone, "formation": "mds", "phase": "Running", "ready": True, "deleting": False,
            "unschedulable": None,
        }  # fmt: skip
        self.add(at_s, "pod", "automatic", **{**usual, **fields})

    def presto(self) -> None:
        """Add a coordinator in zone-b and a worker in each zone; the one of zone-a is back in zone-c after 18 s.

        A long query is in flight when the zone is lost, and fails after 21.3 s.
        """
        self.pod(0.5, "coordinator", "zone-b", formation="presto", app="presto-coordinator", op="SNAPSHOT")
        for zone in ZONES:
            self.pod(0.5, f"worker-{zone}", zone, formation="presto", app="presto-worker", op="SNAPSHOT")
        self.pod(48, "worker-new", "zone-c", formation="presto", app="presto-worker")
        self.long_query("query-1", 20, 51.3, error="REMOTE_TASK_ERROR", error_code=65542)

    def milvus(self) -> None:
        """Add a replica, and a member of etcd bound by its volume, in each zone; the lost replica is back after 17 s.

        A partition is made every 2 s, and all are read back. In each zone a long search is in flight when the zone is
        lost: the one there fails after 3.4 s, the others succeed.
        """
        for zone in ZONES:
            shown = {"formation": "milvus", "op": "SNAPSHOT"}
            self.pod(0.5, f"milvus-{zone}", zone, app="milvus", **shown)
            self.pod(0.5, f"etcd-{zone}", zone, app="milvus-etcd", bound_to=zone, **shown)
            hit = zone == self.zones[0]
            self.long_search(f"search-{zone}", zone, 20, 33.4 if hit else 41, "failed" if hit else "succeeded")
        self.pod(47, "milvus-new", "zone-c", formation="milvus", app="milvus")
        made = [f"p{at_s}" for at_s in range(2, int(LOAD_END_S), 2)]
        for name in made:
            mono, wall = BEGAN_MONO + int(name[1:]), BEGAN_WALL + int(name[1:])
            self.ledger.append(LedgerEntry("milvus", "growing/partitions", name, "attempted", mono - 0.1, wall))
            self.ledger.append(LedgerEntry("milvus", "growing/partitions", name, "acknowledged", mono, wall))
        self.read_back.append(
            ReadBack("milvus", "growing/partitions", made, BEGAN_MONO + LOAD_END_S + 1, BEGAN_WALL),
        )

    def long_search(
        self, name: str, zone: str | None, taken_s: float, ended_s: float, state: WorkloadState = "failed"
    ) -> None:
        """Add a long search on the replica of a zone; where it was is not known without one."""
        details = {"replica": f"milvus-{zone}" if zone else None}
        error = {"error": "UNAVAILABLE", "error_code": 14} if state == "failed" else {}
        for at_s, one in ((taken_s - 0.1, "submitted"), (taken_s, "accepted")):
            self.step("milvus", name, "long_search", one, at_s, details=details)
        self.step("milvus", name, "long_search", state, ended_s, details=details, **error)

    def long_query(
        self,
        name: str,
        taken_s: float,
        ended_s: float,
        state: WorkloadState = "failed",
        **fields: Any,  # noqa: ANN401 - fields of a step
    ) -> None:
        """Add a long query of Presto; `fields` are of its last step."""
        for at_s, one in ((taken_s - 0.1, "submitted"), (taken_s, "accepted")):
            self.step("presto", name, "long_query", one, at_s)
        self.step("presto", name, "long_query", state, ended_s, **fields)

    def spark(self) -> None:
        """Add a reference, and three jobs in flight at the fault: one that loses its driver, one an executor, one none.

        The first fails after 25 s. The executor of the second is replaced after 28 s, and both others complete.
        """
        self.job("reference", 2, 15, kind="reference")
        self.job("job-driver", 5, 55, state="failed", error="the driver is gone", result=None)
        self.job_pod(6, "job-driver", "driver", "zone-a")
        self.job_pod(8, "job-driver", "1", "zone-b")
        self.job("job-executor", 5, 100, failed_tasks=2)
        self.job_pod(6, "job-executor", "driver", "zone-b")
        for executor, zone in (("1", "zone-b"), ("2", "zone-a")):
            self.job_pod(8, "job-executor", executor, zone)
        self.job_pod(50, "job-executor", "3", "zone-c", ready=False)
        self.job_pod(58, "job-executor", "3", "zone-c")
        self.job("job-elsewhere", 5, 105)
        self.job_pod(6, "job-elsewhere", "driver", "zone-b")
        for executor, zone in (("1", "zone-b"), ("2", "zone-c")):
            self.job_pod(8, "job-elsewhere", executor, zone)

    def job(
        self, name: str, taken_s: float, ended_s: float, kind: str = "job", *, state: WorkloadState = "succeeded",
        rates: tuple[float, float] = (2.0, 2.0), failed_tasks: int = 0, result: str | None = "sum 42", **fields: Any,  # noqa: ANN401 - fields of a step
    ) -> None:  # fmt: skip
        """Add a Spark job, or replace it; looked at each second. `rates`: tasks a second before the fault and in it."""
        self.workloads = [one for one in self.workloads if one.workload != name]
        self.step("spark", name, kind, "submitted", taken_s - 0.5, details={"parameters": "rows=1000"})
        self.step("spark", name, kind, "accepted", taken_s)
        for number in range(1, int(ended_s - taken_s)):
            at_s = taken_s + number
            done = rates[0] * (min(at_s, INJECTING_S) - taken_s) + rates[1] * max(0.0, at_s - INJECTING_S)
            details = {"completed_tasks": int(done), "failed_tasks": failed_tasks if at_s > INJECTING_S + 5 else 0}
            self.step("spark", name, kind, "running", at_s, details=details)
        self.step("spark", name, kind, state, ended_s, result=result, **fields)

    def job_pod(self, at_s: float, job: str, part: str, zone: str | None, **fields: Any) -> None:  # noqa: ANN401 - JSON values
        """Write what was seen of a job's pod: its `driver`, or the executor of this id."""
        is_driver = part == "driver"
        own = {"role": "driver" if is_driver else "executor", "executor": None if is_driver else part}
        labels = {"formation": "spark", "app": "spark", "workload": job}
        self.pod(at_s, f"{job}-{part}", zone, **{**labels, **own, **fields})

    def step(self, engine: str, name: str, kind: str, state: WorkloadState, at_s: float, **fields: Any) -> None:  # noqa: ANN401 - fields of a step
        """Write a step of a workload."""
        self.workloads.append(WorkloadStep(engine, name, kind, state, BEGAN_MONO + at_s, BEGAN_WALL + at_s, **fields))

    def change(self, name: str, **fields: Any) -> None:  # noqa: ANN401 - fields of a step
        """Change fields of a workload's last step."""
        last = [number for number, one in enumerate(self.workloads) if one.workload == name][-1]
        self.workloads[last] = replace(self.workloads[last], **fields)

    def save(self, *promises: str) -> Path:
        """Write the run folder, of a run on `promises` or else on its own one."""
        self.folder.mkdir(parents=True)
        meta = {"promises": promises or [self.promise], "variant": "synthetic", "engines": self.engines, "disaster": 5}
        (self.folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        for name, lines in (
            ("timeline", self.events),
            ("requests-1", [{name: getattr(one, name) for name in REQUEST_FIELDS} for one in self.requests]),
            ("ledger-1", [asdict(one) for one in self.ledger]),
            ("workloads-1", [asdict(one) for one in self.workloads]),
        ):
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (self.folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        write_read_back(self.folder, self.read_back)
        return self.folder

    def judged(self, *, running: bool = False) -> Verdict:
        """Write the run folder and return the verdict that the project's own contract gives."""
        (verdict,) = judge(self.save(), project_contract(), running=running)
        return verdict

    def judged_on(self, *promises: str) -> list[Verdict]:
        """Write the run folder and return the verdicts on several promises."""
        return judge(self.save(*promises), project_contract())

    def _add_frame(self) -> None:
        nodes = [f"eu-{zone}" for zone in self.zones]
        fault: dict[str, Any] = {
            "fault": "zone-power-loss",
            "fault_id": "f1",
            "zones": list(self.zones),
            "nodes": nodes,
        }
        self.add(0, "run.begin")
        for engine in self.engines:
            self.add(0.1, "load.begin", engine=engine, arrivals_per_s=5.0, requests_per_s=RATES[engine])
        self.add(BASELINE_S[0], "phase.begin", phase="baseline")
        self.add(BASELINE_S[1], "phase.end", phase="baseline")
        self.add(INJECTING_S, "fault.injecting", "fault", **fault)
        self.add(INJECTED_S, "fault.injected", "fault", **fault)
        self.add(IN_EFFECT_S, "fault.in_effect", "fault", **fault, proof="no answer")
        self.add(50, "provider.act", "provider", act="node-removed", node=f"eu-{self.zones[0]}")
        self.add(HEALING_S - 0.1, "fault.still_in_effect", "fault", **fault, proof="no answer")
        self.add(HEALING_S, "fault.healing", "fault", **fault)
        self.add(HEALED_S, "fault.healed", "fault", **fault)
        for engine in self.engines:
            self.add(LOAD_END_S, "load.end", engine=engine, arrivals_per_s=5.0, requests_per_s=RATES[engine])
        self.add(RUN_END_S, "run.end")

    def _add_cluster(self) -> None:
        """Put one pod of MDS into each zone; the one of the first zone comes back in the last after 20 s."""
        nodes = [
            {
                "name": f"eu-{zone}",
                "zone": zone,
                "cpu_millis": 1000,
                "memory_bytes": 1024 * MIB,
                "pods": 10,
                "usable": True,
            }
            for zone in ZONES
        ]
        control = {"name": "eu-control-plane", "zone": None, "cpu_millis": 8000, "memory_bytes": 8192 * MIB, "pods": 99}
        assigned = [
            {
                "name": f"mds-{zone}", "namespace": "lakehouse", "uid": f"uid-mds-{zone}", "node": f"eu-{zone}",
                "zone": zone, "cpu_millis": 100, "memory_bytes": 384 * MIB, "formation": "mds", "daemon": False,
            }
            for zone in ZONES
        ]  # fmt: skip
        self.add(CAPACITY_S, "capacity", nodes=[*nodes, {**control, "usable": False}], assigned=assigned)
        for zone in ZONES:
            self.pod(0.5, f"mds-{zone}", zone, op="SNAPSHOT")
        lost = f"mds-{self.zones[0]}"
        self.pod(42, lost, self.zones[0], ready=False)
        self.pod(45, "mds-new", None, op="ADDED", ready=False)
        self.pod(46, "mds-new", "zone-c", ready=False)
        self.pod(50, "mds-new", "zone-c")
        self.pod(51, lost, self.zones[0], op="DELETED", ready=False)
