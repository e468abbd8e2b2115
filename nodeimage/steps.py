"""Progress of long builds: named steps with their times, on stderr, and the steps' own output in a log beside them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from gameday.paths import cache_dir

_TELL_EVERY_S = 20.0


def log_file(name: str) -> Path:
    """Return the file that a build step writes its own output to."""
    folder = cache_dir() / "logs"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.log"


def say(text: str) -> None:
    """Print one line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def step(name: str, state: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Announce a step, say every 20 s that it goes on (with what `state` returns), and say how long it took."""
    started = time.monotonic()
    done = threading.Event()

    def tell() -> None:
        while not done.wait(_TELL_EVERY_S):
            say(f"  … {name}: {time.monotonic() - started:.0f} s {state()}".rstrip())

    say(f"  → {name}")
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    except BaseException:
        say(f"  ✗ {name} after {time.monotonic() - started:.0f} s")
        raise
    else:
        say(f"  ✓ {name} in {time.monotonic() - started:.0f} s")
    finally:
        done.set()
        teller.join()


def together[T](*jobs: Callable[[], T]) -> list[T]:
    """Run jobs side by side and return their results in order; the first error is raised when all have ended."""
    with ThreadPoolExecutor(max_workers=max(1, len(jobs))) as pool:
        futures = [pool.submit(job) for job in jobs]
    return [future.result() for future in futures]
