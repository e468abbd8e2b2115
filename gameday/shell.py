"""Running other programs: one way to do it, with errors that say what failed and how."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from gameday.errors import DeadlinePassed, HarnessError

_TAIL_LINES = 12
# of a command's word in an error: a class path has thousands of letters
_WORD = 80


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    deadline_s: float = 120.0,
    check: bool = True,
    log: Path | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output as text.

    `environment` is added to ours. With `log`, output goes to that file instead, so that a long build can be followed.
    It runs in the folder `cwd` where that is given, else in ours.
    Raises HarnessError with the end of what it said where `check` and it fails or is missing, DeadlinePassed after
    `deadline_s` seconds (the program is killed then).
    """
    data = stdin.encode() if isinstance(stdin, str) else stdin
    sink = log.open("ab") if log else None
    try:
        done = subprocess.run(
            list(command),
            env={**os.environ, **(environment or {})},
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            stdout=sink or subprocess.PIPE,
            stderr=sink or subprocess.PIPE,
            timeout=deadline_s,
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as error:
        raise HarnessError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise DeadlinePassed(f"`{_named(command, 4)} …` to end", deadline_s, "still running") from error
    finally:
        if sink:
            sink.close()
    out, err = _text(done.stdout), _text(done.stderr)
    if check and done.returncode != 0:
        said = (log.read_text(errors="replace") if log else err or out).strip().splitlines()[-_TAIL_LINES:]
        where = f" (whole output in {log})" if log else ""
        raise HarnessError(f"`{_named(command, 6)}` exited with {done.returncode}{where}: " + " | ".join(said))
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def free_port() -> int:
    """Return a port of loopback that nobody uses now, for a program that is about to be run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _named(command: Sequence[str], words: int) -> str:
    """Return the first words of a command, each cut off: a class path can be pages long."""
    return " ".join(word[:_WORD] for word in command[:words])


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")
