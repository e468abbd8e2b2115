"""Experiments as files: read and checked before anything is touched.

Chaos Toolkit's own validation lets a wrong zone or an unknown argument pass until the activity runs, in the middle of a
fault; here a file's shape is held against strict models, and the names in it against the functions, faults, zones and
promises that there are.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from chaoslib.hypothesis import ensure_hypothesis_tolerance_is_valid
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from faults.actions import FAULTS
from gameday.contract import Contract
from gameday.errors import UsageError
from gameday.topology import Topology
from loadgen.jobs import JobWanted

EXTENSION = "lakehouse-chaos"
_OURS = ("faults", "runbooks", "probes", "loadgen", "gameday")
# what Chaos Toolkit loads from a disk, in lower case only (chaoslib.loader)
_SUFFIXES = (".yaml", ".yml", ".json")
# the arguments of our functions that hold zones
_ZONE_ARGUMENTS = ("zones", "outside")

_Name = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    """A part of an experiment: every field is known, and nothing is converted, as Chaos Toolkit converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Extension(_Strict):
    """What an experiment says of itself beside Chaos Toolkit's own fields.

    Its loads are of `engines`; without those of them that it `needs` it would not be what its title says.
    """

    name: str
    disaster: int
    variant: _Name
    engines: list[_Name]
    needs: list[_Name] = []


class _Provider(_Strict):
    type: Literal["python"]
    module: _Name
    func: _Name
    arguments: dict[str, Any] = {}


class _Pauses(_Strict):
    before: float = 0
    after: float = 0


class _Activity(_Strict):
    type: Literal["action", "probe"]
    name: _Name
    provider: _Provider
    tolerance: Any = None
    pauses: _Pauses = _Pauses()
    background: bool = False


class _HypothesisProbe(_Activity):
    type: Literal["probe"]
    tolerance: Any


class _Hypothesis(_Strict):
    title: _Name
    probes: list[_HypothesisProbe]


class _Document(_Strict):
    """The fields of Chaos Toolkit's specification that our experiments use; any other is a slip of the pen."""

    title: _Name
    description: _Name
    tags: list[_Name] = []
    extensions: list[dict[str, Any]] = []
    configuration: dict[str, Any] = {}
    hypothesis: _Hypothesis = Field(alias="steady-state-hypothesis")
    method: list[_Activity]
    rollbacks: list[_Activity]
    runtime: dict[str, dict[str, Any]] = {}
    version: Any = None


class Experiment(BaseModel):
    """A checked experiment; `document` is the file's own content, and its faults concern so many zones."""

    path: Path
    title: str
    disaster: int
    variant: str
    engines: list[str]
    needs: list[str]
    promises: list[str]
    zones_broken: int
    document: dict[str, Any]

    @property
    def name(self) -> str:
        """The file's name without its ending, by which runs are named."""
        return self.path.stem


def is_ours(document: object) -> bool:
    """Tell whether a document is an experiment of the lakehouse: it carries our extension, or calls our functions.

    Raises nothing, whatever the document is.
    """
    if not isinstance(document, dict):
        return False
    named = any(item.get("name") == EXTENSION for item in _mappings(document.get("extensions")))
    return named or any(_module(activity).split(".")[0] in _OURS for activity in activities(document))


def read_document(path: Path) -> object:
    """Return the content of a file, JSON by its ending or else YAML; raises UsageError where there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the experiment {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        ) from error
    # YAML is not all of JSON: it takes no tabs between tokens
    kind, parse = ("JSON", json.loads) if path.suffix == ".json" else ("YAML", yaml.safe_load)
    try:
        document: object = parse(text)
    except Exception as error:  # PyYAML's constructors raise whatever a bad date or number leads to
        raise UsageError(f"the experiment {path} is not {kind}: {' '.join(str(error).split())}") from error
    return document


def activities(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all activities of an experiment: of its hypothesis, its method and its rollbacks; none of a wrong shape."""
    hypothesis = document.get("steady-state-hypothesis")
    probes = hypothesis.get("probes") if isinstance(hypothesis, dict) else None
    for part in (probes, document.get("method"), document.get("rollbacks")):
        yield from _mappings(part)


def load_experiment(path: Path, contract: Contract, topology: Topology) -> Experiment:
    """Read and check an experiment of the lakehouse; raises UsageError, one sentence naming file and place."""
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"the experiment {path} does not end with {', '.join(_SUFFIXES)}: no other ending is loaded")
    document = read_document(path)
    if not isinstance(document, dict):
        raise UsageError(f"the experiment {path} is no mapping")
    return check_experiment(path, document, contract, topology)


def check_experiment(path: Path, document: dict[str, Any], contract: Contract, topology: Topology) -> Experiment:
    """Check what was read from a file, or made of it; raises UsageError, one sentence naming file and place."""
    checked = _shaped(path, document)
    extension = _extension(path, checked)
    promises: list[str] = []
    broken: set[str] = set()
    for probe in checked.hypothesis.probes:
        _check_tolerance(path, probe)
    for activity in (*checked.hypothesis.probes, *checked.method, *checked.rollbacks):
        _check_call(path, activity)
        _check_names(path, activity.name, activity.provider.arguments, topology)
        if activity.provider.module == "probes.promises" and "promise" in activity.provider.arguments:
            promises.append(activity.provider.arguments["promise"])
        zones = activity.provider.arguments.get("zones")
        if "fault" in activity.provider.arguments and isinstance(zones, list):
            broken.update(zones)
    unknown = [promise for promise in promises if promise not in contract.ids]
    if unknown:
        raise UsageError(f"the experiment {path} names the unknown promise {unknown[0]!r}: `chaos promises` lists them")
    if not promises:
        raise UsageError(f"the experiment {path} asserts no promise: its hypothesis has no probe of probes.promises")
    return Experiment(
        path=path, title=checked.title, promises=promises, zones_broken=len(broken), document=document, **extension
    )


def _mappings(part: object) -> Iterator[dict[str, Any]]:
    yield from (item for item in part if isinstance(item, dict)) if isinstance(part, list) else ()


def _module(activity: dict[str, Any]) -> str:
    provider = activity.get("provider")
    module = provider.get("module") if isinstance(provider, dict) else None
    return module if isinstance(module, str) else ""


def _shaped(path: Path, document: dict[str, Any]) -> _Document:
    try:
        return _Document.model_validate(document)
    except ValidationError as error:
        raise UsageError(f"the experiment {path}{_first(error, document)}") from error


def _extension(path: Path, checked: _Document) -> dict[str, Any]:
    found = [item for item in checked.extensions if item.get("name") == EXTENSION]
    if len(found) != 1:
        raise UsageError(
            f"the experiment {path} needs one extension named {EXTENSION} with disaster, variant and engines"
        )
    try:
        extension = Extension.model_validate(found[0])
    except ValidationError as error:
        raise UsageError(f"the experiment {path}, extension {EXTENSION}{_first(error, found[0])}") from error
    strange = [engine for engine in extension.needs if engine not in extension.engines]
    if strange:
        raise UsageError(f"the experiment {path}, extension {EXTENSION}: needs {strange[0]!r}, none of its engines")
    return extension.model_dump(exclude={"name"})


def _first(error: ValidationError, document: dict[str, Any]) -> str:
    """Return what is wrong and where, an unknown field first: a misspelt field is missing as well."""
    errors = error.errors()
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    says = {"extra_forbidden": "has the unknown field", "missing": "lacks the field"}.get(first["type"])
    if says:
        place = _place(first["loc"][:-1], document)
        return f"{place}{',' if place else ''} {says} {first['loc'][-1]!r}"
    return f"{_place(first['loc'], document)}: {first['msg']}"


def _place(location: tuple[int | str, ...], document: dict[str, Any]) -> str:
    """Return where in a file something is, activities by their name: a number says little in a list of ten."""
    names: list[str] = []
    inner: Any = document
    for part in location:
        try:
            inner = inner[part]
        except (LookupError, TypeError):
            inner = None
        named = isinstance(part, int) and isinstance(inner, dict) and isinstance(inner.get("name"), str)
        if named:
            names.append(f"{'extension' if location[0] == 'extensions' else 'activity'} {inner['name']!r}")
        else:
            names.append(f"item {part + 1}" if isinstance(part, int) else part)
    return "".join(f", {name}" for name in names)


def _check_tolerance(path: Path, probe: _HypothesisProbe) -> None:
    """Have Chaos Toolkit check a tolerance, as it will: a regular expression that does not compile, for one."""
    try:
        ensure_hypothesis_tolerance_is_valid(probe.tolerance)
    except Exception as error:  # the check itself trips over shapes that it does not expect
        raise UsageError(f"the experiment {path}, activity {probe.name!r}, has a wrong tolerance: {error}") from error


def _check_call(path: Path, activity: _Activity) -> None:
    """Hold an activity against the function that it calls: its existence, and the names and types of arguments."""
    module, function, arguments = activity.provider.module, activity.provider.func, activity.provider.arguments
    where = f"the experiment {path}, activity {activity.name!r}, calls {module}.{function}"
    if module.split(".")[0] not in _OURS:
        raise UsageError(
            f"{where}, which is none of {', '.join(_OURS)}: it might act on a cluster that did not opt in, and nothing"
            " would undo it"
        )
    try:
        target = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UsageError(f"{where}, which does not exist") from error
    try:
        inspect.signature(target).bind(**arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where} wrongly: {error}") from error
    _check_types(where, target, arguments)


def _check_types(where: str, target: Callable[..., Any], arguments: dict[str, Any]) -> None:
    hints = get_type_hints(target)
    for name, value in arguments.items():
        if isinstance(value, str) and "${" in value:
            continue  # filled in by Chaos Toolkit from the configuration, in any type
        try:
            TypeAdapter(hints.get(name, Any)).validate_python(value, strict=True)
        except ValidationError as error:
            raise UsageError(f"{where} wrongly: {name}: {error.errors()[0]['msg']}") from error


def _check_names(path: Path, name: str, arguments: dict[str, Any], topology: Topology) -> None:
    where = f"the experiment {path}, activity {name!r},"
    if "fault" in arguments and arguments["fault"] not in FAULTS:
        raise UsageError(
            f"{where} names the unknown fault {arguments['fault']!r}: there are {', '.join(sorted(FAULTS))}"
        )
    if arguments.get("zones") == []:
        raise UsageError(f"{where} names no zone: there are {', '.join(topology.zones)}")
    jobs = [_job(where, job) for job in arguments.get("jobs") or []]
    named = [zone for argument in _ZONE_ARGUMENTS for zone in arguments.get(argument) or []]
    for zone in (*named, *(zone for job in jobs for zone in job.zones)):
        if zone not in topology.zones:
            raise UsageError(f"{where} names the unknown zone {zone!r}: there are {', '.join(topology.zones)}")


def _job(where: str, job: object) -> JobWanted:
    try:
        return JobWanted.model_validate(job)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where} has a job that is none: {place}: {first['msg']}") from error
