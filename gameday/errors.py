"""The exceptions of the harness, and the exit code that each one becomes.

ChaosError                      anything the harness says in one sentence
├── UsageError           (64)   bad input: experiment, contract, kubeconfig, flag, file; nothing was touched
├── Refused              (64)   a fault was asked for where it may not be injected; nothing was touched
├── Inconclusive         (2)    the run cannot give an answer: preflight failed, the fault is not available
└── HarnessError         (3)    the harness itself failed
    └── DeadlinePassed   (3)    a wait ended without what it waited for; says what was awaited and what was seen
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a command of the harness returns to the shell; the worst of several counts (see `worst`)."""

    HELD = 0
    BROKEN = 1
    INCONCLUSIVE = 2
    HARNESS_ERROR = 3
    USAGE = 64


def worst(codes: list[ExitCode]) -> ExitCode:
    """Combine the exit codes of several runs: broken > harness error > usage > inconclusive > held.

    A broken promise is the one thing that must not be hidden by anything else; an empty list is inconclusive, because
    a green run in which nothing was executed is a lie.
    """
    order = [ExitCode.BROKEN, ExitCode.HARNESS_ERROR, ExitCode.USAGE, ExitCode.INCONCLUSIVE, ExitCode.HELD]
    return next((code for code in order if code in codes), ExitCode.INCONCLUSIVE)


class ChaosError(Exception):
    """Base of all errors that are shown as one sentence, without a traceback."""

    exit_code: ClassVar[ExitCode] = ExitCode.HARNESS_ERROR


class UsageError(ChaosError):
    """The input is wrong; the sentence says what to do about it."""

    exit_code = ExitCode.USAGE


class Refused(ChaosError):
    """The target did not opt in to faults, or the fault does not fit it."""

    exit_code = ExitCode.USAGE


class Inconclusive(ChaosError):
    """No verdict can be given, and going on would not change that."""

    exit_code = ExitCode.INCONCLUSIVE


class HarnessError(ChaosError):
    """The harness could not do its own work."""

    exit_code = ExitCode.HARNESS_ERROR


class DeadlinePassed(HarnessError):
    """What was awaited did not come in time."""

    def __init__(self, awaited: str, deadline_s: float, seen: str) -> None:
        super().__init__(f"waited {deadline_s:g} s for {awaited}; last seen: {seen}")
        self.awaited = awaited
        self.deadline_s = deadline_s
        self.seen = seen
