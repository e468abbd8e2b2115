"""Class-data archives: the classes of a Java program as they lie in memory, so that a start need not parse them.

Such an archive is made from lists of the classes that training runs loaded. Java takes it only with the very class path
it was made for, which is why both name jars relative to the program's home and in one order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gameday.shell import run

NAME = "classes.jsa"
_DEADLINE_S = 900.0


def jars_of(home: Path, folder: str) -> list[str]:
    """Return the jars of a folder below `home`, relative to that and in the order that class paths have."""
    return [f"{folder}/{jar.name}" for jar in sorted((home / folder).glob("*.jar"))]


def record_classes(into: Path) -> str:
    """Return the option by which a training run lists its classes in a file."""
    return f"-XX:DumpLoadedClassList={into}"


def write_class_archive(java: Path, home: Path, jars: Sequence[str], lists: Sequence[Path], log: Path) -> None:
    """Write `home`/classes.jsa from the lists of training runs; raises HarnessError where Java would not take it."""
    for jar in jars:
        # the time that it has in an image: Java notes it, and takes no archive of a jar with another
        os.utime(home / jar, (0, 0))
    merged = home / "classes.list"
    merged.write_text("\n".join(sorted({line for file in lists for line in file.read_text().splitlines()})) + "\n")
    archive = f"-XX:SharedArchiveFile={NAME}"
    common = ["-XX:+UseSerialGC", archive, "-cp", ":".join(jars)]
    run(
        [str(java), "-Xshare:dump", f"-XX:SharedClassListFile={merged}", *common],
        deadline_s=_DEADLINE_S,
        log=log,
        cwd=home,
    )
    merged.unlink()
    run([str(java), "-Xshare:on", *common, "-version"], deadline_s=_DEADLINE_S, log=log, cwd=home)
