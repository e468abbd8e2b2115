"""Shipped experiments made shorter for the tests: fewer engines and promises, and less to observe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from lab import EXPERIMENTS

from gameday.narrowing import narrow
from gameday.paths import PROJECT

# What healthy parts take is half of this.
_EACH_S = 45.0


def shorten(
    folder: Path,
    name: str,
    *,
    promises: tuple[str, ...] = (),
    engines: tuple[str, ...] = ("mds",),
    observe_s: float | None = None,
    baseline_s: float | None = None,
    deadline_s: float | None = None,
    pace_s: float | None = None,
) -> Path:
    """Write a shipped experiment into a folder, on these engines alone; without `promises`, all that are about them.

    With `deadline_s`, to go with a contract of `hurried`, the fault lasts until then, and the parts that are waited for
    one after the other have less time each; `pace_s` is of the jobs.
    """
    document = narrow(yaml.safe_load(EXPERIMENTS[name].read_text()), engines, promises)
    for activity in document["method"]:
        arguments = activity["provider"].get("arguments", {})
        if deadline_s is not None and activity["provider"]["func"].startswith("wait_"):
            arguments["deadline_s"] = _EACH_S
        if deadline_s is not None and activity["provider"]["func"] == "observe":
            arguments |= {"seconds": 1, "since_fault_s": deadline_s + 2}
        for job in arguments.get("jobs", []) if pace_s is not None else []:
            job["arguments"]["pace_s"] = pace_s
        wanted = {"observe": observe_s, "baseline": baseline_s}.get(activity["provider"]["func"])
        if wanted is not None:
            arguments["seconds"] = wanted
            arguments.pop("since_fault_s", None)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def without(experiment: Path, *functions: str) -> Path:
    """Take the steps out of an experiment whose function begins so, for tests of what is known without them.

    A lakehouse that a test broke need not recover (`await_recovery`), nor be whole (`wait_`).
    """
    document: dict[str, Any] = yaml.safe_load(experiment.read_text())
    document["method"] = [one for one in document["method"] if not one["provider"]["func"].startswith(functions)]
    experiment.write_text(yaml.safe_dump(document, sort_keys=False))
    return experiment


def hurried(folder: Path, deadline_s: float) -> Path:
    """Write the contract with a shorter time for the recovery, so that a test need not wait out two minutes."""
    document: dict[str, Any] = yaml.safe_load((PROJECT / "contract.yaml").read_text())
    assert deadline_s < document["recovery"]["deadline_s"]
    document["recovery"]["deadline_s"] = deadline_s
    path = folder / "contract.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
