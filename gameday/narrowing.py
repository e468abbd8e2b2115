"""Experiments on fewer engines than they are written for: what concerns the others is left out, the rest stays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import deepcopy
from typing import Any

from gameday.experiment import EXTENSION

# Parts of a promise's identifier, and of an experiment, that are about no engine in particular.
_ALL_ENGINES = ("all", "customer")
# What is done for Spark's jobs alone, by functions that name no engine.
_OF_JOBS = ("await_jobs", "run_references")


def narrow(document: dict[str, Any], engines: Sequence[str], promises: Collection[str] = ()) -> dict[str, Any]:
    """Return an experiment's document on these of its engines alone, asserting `promises` or all that concern them.

    The document is one that `load_experiment` accepts, and is not changed itself.
    """
    narrowed = deepcopy(document)
    extension = next(one for one in narrowed["extensions"] if one["name"] == EXTENSION)
    others = [engine for engine in extension["engines"] if engine not in engines]
    extension["engines"] = list(engines)
    if "needs" in extension:
        extension["needs"] = [engine for engine in extension["needs"] if engine in engines]
    narrowed["tags"] = [tag for tag in narrowed.get("tags", ()) if tag not in others]
    hypothesis = narrowed["steady-state-hypothesis"]
    for part in (hypothesis["probes"], narrowed["method"]):
        part[:] = [activity for activity in part if _concerns(activity, engines)]
    asserted = [found for probe in hypothesis["probes"] if (found := _argument(probe, "promise"))]
    kept = promises or [one for one in asserted if one.split(".")[1] in (*_ALL_ENGINES, *engines)]
    hypothesis["probes"] = [probe for probe in hypothesis["probes"] if _argument(probe, "promise") in (None, *kept)]
    for activity in narrowed["method"]:
        arguments = activity["provider"].get("arguments", {})
        if "engines" in arguments:
            arguments["engines"] = list(engines)
            if "spark" not in engines:
                arguments.pop("jobs", None)
    return narrowed


def _argument(activity: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - JSON values
    """Return an argument of an activity, None where it has no such one."""
    return activity["provider"].get("arguments", {}).get(name)


def _concerns(activity: dict[str, Any], engines: Sequence[str]) -> bool:
    """Tell whether an activity is about one of the engines, or about none in particular."""
    module, function = activity["provider"]["module"], activity["provider"]["func"]
    if function in _OF_JOBS:
        return "spark" in engines
    if module in ("probes.mds", "probes.milvus", "probes.presto", "probes.spark"):
        return module.removeprefix("probes.") in engines
    formation = _argument(activity, "formation")
    return formation is None or formation in engines
