"""Experiments as files: read and checked before anything is touched.

Chaos Toolkit's own validation lets a wrong zone or an unknown argument pass until the activity runs, in the middle of a
fault; here the names in a file are held against the functions, faults, zones and promises that there are.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from faults.actions import FAULTS
from gameday.contract import Contract
from gameday.errors import UsageError
from gameday.topology import Topology

EXTENSION = "lakehouse-chaos"
_OURS = ("faults", "runbooks", "probes", "loadgen", "gameday")
# The fields of Chaos Toolkit's specification that our experiments use; a field beside these is a slip of the pen.
_FIELDS = {
    "title",
    "description",
    "tags",
    "extensions",
    "configuration",
    "steady-state-hypothesis",
    "method",
    "rollbacks",
    "runtime",
    "version",
}
_ACTIVITY_FIELDS = {"type", "name", "provider", "tolerance", "pauses", "background"}


class Extension(BaseModel):
    """What an experiment says of itself beside Chaos Toolkit's own fields."""

    model_config = ConfigDict(extra="forbid")

    name: str
    disaster: int
    variant: str
    engines: list[str]


class Experiment(BaseModel):
    """A checked experiment; `document` is the file's own content."""

    path: Path
    title: str
    disaster: int
    variant: str
    engines: list[str]
    promises: list[str]
    document: dict[str, Any]

    @property
    def name(self) -> str:
        """The file's name without its ending, by which runs are named."""
        return self.path.stem


def is_ours(document: object) -> bool:
    """Tell whether a document is an experiment of the lakehouse: it carries our extension, or calls our functions."""
    if not isinstance(document, dict):
        return False
    extensions = document.get("extensions") or []
    named = any(isinstance(item, dict) and item.get("name") == EXTENSION for item in extensions)
    return named or any(_module(activity).split(".")[0] in _OURS for activity in activities(document))


def read_document(path: Path) -> object:
    """Return the content of a YAML or JSON file; raises UsageError where there is none."""
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the experiment {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        ) from error
    except yaml.YAMLError as error:
        raise UsageError(f"the experiment {path} is not YAML: {' '.join(str(error).split())}") from error


def activities(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all activities of an experiment: of its hypothesis, its method and its rollbacks."""
    hypothesis = document.get("steady-state-hypothesis") or {}
    for part in (hypothesis.get("probes"), document.get("method"), document.get("rollbacks")):
        yield from (item for item in part or [] if isinstance(item, dict))


def load_experiment(path: Path, contract: Contract, topology: Topology) -> Experiment:
    """Read and check an experiment of the lakehouse; raises UsageError, one sentence naming file and place."""
    document = read_document(path)
    if not isinstance(document, dict):
        raise UsageError(f"the experiment {path} is no mapping")
    unknown = sorted(set(document) - _FIELDS)
    if unknown:
        raise UsageError(f"the experiment {path} has the unknown field {unknown[0]!r}")
    for missing in ("title", "description", "method", "steady-state-hypothesis", "rollbacks"):
        if missing not in document:
            raise UsageError(f"the experiment {path} lacks the field {missing!r}")
    extension = _extension(path, document)
    promises = []
    for activity in activities(document):
        arguments = _check_activity(path, activity)
        _check_names(path, activity, arguments, topology)
        if _module(activity) == "probes.promises":
            promises.append(arguments["promise"])
    unknown = [promise for promise in promises if promise not in contract.ids]
    if unknown:
        raise UsageError(f"the experiment {path} names the unknown promise {unknown[0]!r}: `chaos promises` lists them")
    if not promises:
        raise UsageError(f"the experiment {path} asserts no promise: its hypothesis has no probe of probes.promises")
    return Experiment(path=path, title=document["title"], promises=promises, document=document, **extension)


def _extension(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    found = [
        item for item in document.get("extensions") or [] if isinstance(item, dict) and item.get("name") == EXTENSION
    ]
    if len(found) != 1:
        raise UsageError(
            f"the experiment {path} needs one extension named {EXTENSION} with disaster, variant and engines"
        )
    try:
        return Extension(**found[0]).model_dump(exclude={"name"})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"the experiment {path}, extension {EXTENSION}, {place}: {first['msg']}") from error


def _module(activity: dict[str, Any]) -> str:
    provider = activity.get("provider")
    return str(provider.get("module", "")) if isinstance(provider, dict) else ""


def _check_activity(path: Path, activity: dict[str, Any]) -> dict[str, Any]:
    """Hold an activity against the function that it names and return its arguments."""
    name = activity.get("name", "without a name")
    where = f"the experiment {path}, activity {name!r},"
    unknown = sorted(set(activity) - _ACTIVITY_FIELDS)
    if unknown:
        raise UsageError(f"{where} has the unknown field {unknown[0]!r}")
    provider = activity.get("provider")
    if not isinstance(provider, dict) or provider.get("type") != "python":
        raise UsageError(f"{where} needs a provider of type python")
    module, function = _module(activity), str(provider.get("func"))
    try:
        target = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{where} calls {module}.{function}, which does not exist") from error
    arguments = provider.get("arguments") or {}
    try:
        inspect.signature(target).bind(**arguments)
    except TypeError as error:
        raise UsageError(f"{where} calls {module}.{function} wrongly: {error}") from error
    return dict(arguments)


def _check_names(path: Path, activity: dict[str, Any], arguments: dict[str, Any], topology: Topology) -> None:
    where = f"the experiment {path}, activity {activity['name']!r},"
    if "fault" in arguments and arguments["fault"] not in FAULTS:
        raise UsageError(
            f"{where} names the unknown fault {arguments['fault']!r}: there are {', '.join(sorted(FAULTS))}"
        )
    for zone in arguments.get("zones", []):
        if zone not in topology.zones:
            raise UsageError(f"{where} names the unknown zone {zone!r}: there are {', '.join(topology.zones)}")
