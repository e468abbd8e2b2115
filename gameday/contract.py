"""The contract: what is promised, and the figures that the judge holds a run against, as `contract.yaml` has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from gameday.errors import UsageError

Engine = Literal["all", "milvus", "presto", "mds", "spark", "customer"]
RecoveryActor = Literal["sre", "customer", "automatic"]
Method = Literal[
    "no_impact",
    "impact",
    "impact_until_restored",
    "capacity",
    "rescheduled",
    "queries_fail_rescheduled",
    "searches_fail_recover",
    "metadata_goes_on",
    "driver_lost",
    "executors_replaced",
    "workloads_elsewhere",
    "no_customer_step",
]
METHODS: tuple[str, ...] = get_args(Method)

Name = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    """A part of the contract: every field is known, and none changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class _Figures(_Strict):
    """Figures of ours, each with the reason why it is what it is."""

    reasons: dict[str, Name]

    @model_validator(mode="after")
    def _one_reason_each(self) -> Self:
        figures = set(type(self).model_fields) - {"reasons", "engines"}
        for name in sorted(figures ^ set(self.reasons)):
            raise ValueError(
                f"{name} has no reason" if name in figures else f"there is a reason for {name}, which is no figure"
            )
        return self


class ImpactBounds(_Strict):
    """What "no impact" allows an engine: ratios without unit, seconds, and a latency made of the run's own baseline."""

    error_ratio_max: Annotated[float, Field(ge=0, le=1)]
    longest_gap_s_max: PositiveFloat
    latency_p95_factor_max: PositiveFloat
    latency_p95_added_s_max: NonNegativeFloat

    def latency_p95_s_max(self, baseline_p95_s: float) -> float:
        """Return the highest 95th percentile of latency that is no impact, in seconds, given the baseline's."""
        return self.latency_p95_factor_max * baseline_p95_s + self.latency_p95_added_s_max


class _Override(_Strict):
    """Figures of one engine that differ from those of all, with the reason."""

    reason: Name


def _of_engine(engines: Iterable[tuple[str, _Override]], engine: str) -> dict[str, Any]:
    """Return the figures that an engine has for itself."""
    own = next((override for name, override in engines if name == engine), None)
    return own.model_dump(exclude_none=True, exclude={"reason"}) if own else {}


class ImpactOverride(_Override):
    """What "no impact" allows one engine, where it is not what it allows all."""

    error_ratio_max: Annotated[float, Field(ge=0, le=1)] | None = None
    longest_gap_s_max: PositiveFloat | None = None
    latency_p95_factor_max: PositiveFloat | None = None
    latency_p95_added_s_max: NonNegativeFloat | None = None


class Impact(ImpactBounds, _Figures):
    """The bounds of all engines, and those of single engines that have others."""

    engines: dict[Engine, ImpactOverride]

    def of(self, engine: str) -> ImpactBounds:
        """Return the bounds that hold for an engine."""
        common = {name: getattr(self, name) for name in ImpactBounds.model_fields}
        return ImpactBounds(**{**common, **_of_engine(self.engines.items(), engine)})


class RecoveryOverride(_Override):
    """When an answer of one engine is late, where that is not when it is late for all."""

    slow_after_s: PositiveFloat | None = None


class Recovery(_Figures):
    """When a service counts as recovered, in seconds; see `gameday.measure.outages`."""

    sustained_s: PositiveFloat
    slow_after_s: PositiveFloat
    deadline_s: PositiveFloat
    engines: dict[Engine, RecoveryOverride]

    def slow_after_s_of(self, engine: str) -> float:
        """Return when an answer of an engine is so late that it counts as a failure."""
        return float(_of_engine(self.engines.items(), engine).get("slow_after_s", self.slow_after_s))


class EvidenceOverride(_Override):
    """How many operations a baseline of one engine must have, where that is not how many all must have."""

    baseline_requests_min: PositiveInt | None = None


class Evidence(_Figures):
    """What a run must show of itself to be judged at all."""

    baseline_requests_min: PositiveInt
    rate_deviation_max: Annotated[float, Field(gt=0, lt=1)]
    silence_s_max: PositiveFloat
    start_delay_p95_s_max: PositiveFloat
    start_delay_s_max: PositiveFloat
    cores_taken_max: PositiveFloat
    cores_idle_min: PositiveFloat
    engines: dict[Engine, EvidenceOverride]

    def baseline_requests_min_of(self, engine: str) -> int:
        """Return how many operations a baseline of an engine must have."""
        return int(_of_engine(self.engines.items(), engine).get("baseline_requests_min", self.baseline_requests_min))


class WorkloadFigures(_Figures):
    """When a workload was in flight, when it must have failed, and what progress is no impact on it.

    in_flight_min_s     seconds that the engine must have had it before the fault
    fails_within_s      seconds after the fault within which a query in flight must have failed
    replacement_s       seconds that a job must go on without a lost executor to be blamed for getting no other
    progress_ratio_min  tasks a second in the fault, as a share of those a second in the baseline
    progress_tasks_min  tasks that must have been completed in the baseline for its rate to be known
    """

    in_flight_min_s: NonNegativeFloat
    fails_within_s: PositiveFloat
    replacement_s: PositiveFloat
    progress_ratio_min: Annotated[float, Field(gt=0, le=1)]
    progress_tasks_min: PositiveInt


class Bound(_Strict):
    """A figure of the document in the unit that its name ends with; `scales` if it follows from the backup interval."""

    value: PositiveFloat
    scales: Literal["backup-interval"] | None = None


class JudgedBy(_Strict):
    """The way in which the judge answers a promise: one of the checkers of `gameday.judge`."""

    method: Method


class ContractPromise(_Strict):
    """One promise; `actor` is who performs the recovery step that it speaks of."""

    id: Annotated[str, Field(pattern=r"^S[1-6]\.[a-z0-9-]+(\.[a-z0-9-]+)?$")]
    disaster: Annotated[int, Field(ge=1, le=6)]
    engine: Engine
    promise: Name
    actor: RecoveryActor | None = None
    variants: list[Name] = []
    bounds: dict[str, Bound] = {}
    judged_by: JudgedBy | None = None

    @model_validator(mode="after")
    def _named_after_its_place(self) -> Self:
        if self.id.split(".")[:2] != [f"S{self.disaster}", self.engine]:
            raise ValueError(f"the id does not begin with S{self.disaster}.{self.engine}")
        return self


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a promise is covered: the experiments that exercise it, none if it is not exercised yet."""

    promise: ContractPromise
    exercised_by: tuple[str, ...]


class Contract(_Strict):
    """All promises, and what the words in them mean in numbers."""

    title: Name
    source: Name
    impact: Impact
    recovery: Recovery
    evidence: Evidence
    workloads: WorkloadFigures
    promises: Annotated[list[ContractPromise], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_id_once(self) -> Self:
        twice = [
            promise_id for promise_id, count in Counter(promise.id for promise in self.promises).items() if count > 1
        ]
        if twice:
            raise ValueError(f"the promise {twice[0]} is there twice")
        return self

    @property
    def ids(self) -> list[str]:
        """The ids of all promises, in the order of the file."""
        return [promise.id for promise in self.promises]

    def promise(self, promise_id: str) -> ContractPromise | None:
        """Return a promise by its id, None where the contract has none of that id."""
        return next((promise for promise in self.promises if promise.id == promise_id), None)

    def coverage(self, exercised: Mapping[str, Sequence[str]]) -> list[Coverage]:
        """Return how each promise is covered, in the order of the file.

        `exercised` maps ids of promises to the experiments that assert them; raises UsageError for an id that is not
        in the contract.
        """
        for promise_id, experiments in exercised.items():
            if promise_id not in self.ids:
                raise UsageError(
                    f"{', '.join(experiments)} names the promise {promise_id}, which the contract does not have"
                )
        return [Coverage(promise, tuple(exercised.get(promise.id, ()))) for promise in self.promises]


def load_contract(path: Path) -> Contract:
    """Read a contract; raises UsageError, one sentence that names the file and the place in it."""
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the contract {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        ) from error
    except yaml.YAMLError as error:
        raise UsageError(f"the contract {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise UsageError(f"the contract {path} is no mapping")
    try:
        return Contract.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"the contract {path}{_place(first['loc'], document)}: {first['msg']}") from error


def _place(location: tuple[int | str, ...], document: dict[str, Any]) -> str:
    """Return where in the file an error is, promises by their id: a number says little in a list of seventy."""
    if location[:1] == ("promises",) and len(location) > 1 and isinstance(location[1], int):
        promise = document["promises"][location[1]]
        if isinstance(promise, dict) and "id" in promise:
            location = (f"promise {promise['id']}", *location[2:])
    return "".join(f", {part}" for part in location)
