"""Run folders that look like real ones, written in a moment: what the tests of the report are fed with."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gameday.records import Outcome, Recorder, Request, WorkloadState, WorkloadStep
from gameday.timeline import JsonLines

BEGAN_MONO, BEGAN_WALL = 1000.0, 1_790_000_000.0
FAULT_S, HEALING_S, HEALED_S, LENGTH_S = 40.0, 100.0, 106.0, 150.0
ARRIVALS_PER_S = 20
# what a hostile or merely unlucky server can put into an error
NASTY = "</script><script>console.error('escaped')</script><b>&amp;"


def write_run(
    folder: Path, *, zones: tuple[str, ...] = ("zone-a", "zone-b"), outage: bool = True, **meta: str | list[str]
) -> Path:
    """Write a run of `LENGTH_S` s at `ARRIVALS_PER_S`; with `outage`, nothing succeeds from fault to healing."""
    folder.mkdir(parents=True)
    told = {
        "run_id": folder.name, "experiment": "mds-two-zones", "title": "Two zones lost, both return", "disaster": 5,
        "variant": "two-zones", "promises": ["S5.mds.two-zones", "S5.mds.until", "S5.customer"], "region": "eu",
        "zones": ["zone-a", "zone-b", "zone-c"], "engines": ["mds"], "started_wall": BEGAN_WALL,
        "started_mono": BEGAN_MONO, "version": "0.1.0",
        "declared": {"node-monitor-grace-period": "20 s", "arrivals per second": ARRIVALS_PER_S},
        "host": {"cores": 2, "memory_bytes": 24 * 2**30}, **meta,
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(told), encoding="utf-8")
    _write_timeline(folder, list(zones))
    _write_requests(folder, outage=outage)
    return folder


def write_workloads(folder: Path) -> None:
    """Add three workloads to a run: a long query that fails with the fault, a job that goes on, one not seen to end."""
    recorder = Recorder(folder, "presto")

    def add(name: str, kind: str, *steps: tuple[float, WorkloadState], error: str | None = None) -> None:
        engine = "mds" if kind == "long_query" else "spark"
        for at_s, state in steps:
            last = state in ("succeeded", "failed")
            told = {"error": error, "error_code": 65542} if last and error else {}
            recorder.workload(WorkloadStep(engine, name, kind, state, BEGAN_MONO + at_s, BEGAN_WALL + at_s, **told))  # type: ignore[arg-type] # fields of a step

    add("query-1", "long_query", (29.0, "submitted"), (30.0, "accepted"), (61.3, "failed"), error=NASTY)
    add("query-2", "long_query", (39.0, "submitted"), (39.5, "accepted"), (61.3, "failed"), error="e" * 200)
    add("job-with-a-long-name-" + "x" * 60, "job", (20.0, "submitted"), (21.0, "accepted"), (120.0, "running"))
    add("job-2", "job", (20.0, "submitted"), (28.0, "succeeded"))
    recorder.close()


def _write_timeline(folder: Path, zones: list[str]) -> None:
    lines = JsonLines(folder / "timeline.jsonl")
    nodes = [f"eu-worker-{zone[-1]}" for zone in zones]
    fault = {"fault": "zone-power-loss", "fault_id": "f1", "zones": zones, "nodes": nodes}

    def add(at_s: float, kind: str, actor: str | None, **fields: Any) -> None:  # noqa: ANN401 - the fields of a kind are JSON values
        mono = BEGAN_MONO + at_s
        lines.append({"wall": BEGAN_WALL + at_s, "mono": mono, "kind": kind, "actor": actor, **fields})

    add(0, "run.begin", "harness")
    add(0.1, "phase.begin", "harness", phase="baseline")
    for number, node in enumerate(["eu-worker-a", "eu-worker-b", "eu-worker-c"]):
        add(0.2, "node", "automatic", op="SNAPSHOT", name=node, zone=f"zone-{node[-1]}", ready=True, taints=[])
        add(0.2, "pod", "automatic", op="SNAPSHOT", name=f"mds-{number}", uid=f"u{number}", formation="mds", ready=True,
            zone=f"zone-{node[-1]}")  # fmt: skip
    add(FAULT_S - 0.2, "phase.begin", "harness", phase="fault")
    add(FAULT_S - 0.1, "fault.injecting", "fault", **fault)
    add(FAULT_S, "fault.injected", "fault", **fault)
    add(FAULT_S + 1.2, "fault.in_effect", "fault", **fault, proof={"containers": "exited", "tcp 10250": "refused"})
    for node in nodes:
        add(
            FAULT_S + 20, "node", "automatic", op="MODIFIED", name=node, zone=f"zone-{node[-1]}", ready=False, taints=[]
        )
        add(FAULT_S + 30, "provider.act", "provider", act="node-removed", node=node)
    add(
        FAULT_S + 34,
        "pod",
        "automatic",
        op="MODIFIED",
        name="mds-3",
        uid="u3",
        formation="mds",
        ready=True,
        zone="zone-c",
    )
    add(HEALING_S, "phase.begin", "harness", phase="recovery")
    add(HEALING_S, "fault.healing", "fault", **fault)
    for number, zone in enumerate(zones):
        add(HEALED_S + 4 * number, "fault.healed", "fault", **{**fault, "zones": [zone], "nodes": [nodes[number]]})
    add(LENGTH_S - 10, "error", "harness", where="read-back", message=NASTY)
    add(LENGTH_S, "run.end", "harness", exit_code=0)
    lines.close()


def _write_requests(folder: Path, *, outage: bool) -> None:
    dice = random.Random(7)  # noqa: S311 - the same run each time, nothing secret
    lines = JsonLines(folder / "requests-1.jsonl")
    for number in range(int(LENGTH_S * ARRIVALS_PER_S)):
        at_s = number / ARRIVALS_PER_S
        operation = dice.choice(["load_table", "list_namespaces", "commit_snapshot", "create_table"])
        took_s = dice.lognormvariate(-3.2, 0.4)
        outcome: Outcome = "ok"
        failed: list[str] = []
        if outage and FAULT_S <= at_s < HEALED_S:
            outcome, took_s = "error", 3.0 + took_s
            failed = dice.choices([NASTY, "HTTP 503: no replica has room", "ReadTimeout after 3 s"], k=2)
        elif FAULT_S <= at_s < FAULT_S + 3:
            took_s, failed = took_s + 0.5, ["connection refused"]
        mono = BEGAN_MONO + at_s
        request = Request(
            "mds", operation, mono, mono, mono + took_s, BEGAN_WALL + at_s, outcome, attempts=1 + len(failed),
            error=failed[-1] if outcome == "error" else None, attempt_errors=failed, replica="mds-0",
        )  # fmt: skip
        lines.append(asdict(request))
    lines.close()
