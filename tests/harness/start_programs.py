"""Programs by which images start their servers, for tests: as modules, or beside a Java that only says something."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from gameday.paths import PROJECT

PRESTO = PROJECT / "lakehouse" / "presto" / "server.py"
KAFKA = PROJECT / "lakehouse" / "kafka" / "broker.py"


def start_program(path: Path) -> ModuleType:
    """Return a start program, which is no module of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def presto_started(home: Path, script: str, mark: Path) -> str:
    """Start a Presto without settings whose Java is a shell script, and return what that printed."""
    java, etc = home / "java/bin/java", home / "etc"
    for folder in (java.parent, etc):
        folder.mkdir(parents=True)
    for name in ("jvm.config", "node.properties"):
        (etc / name).touch()
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    # on that port nobody answers who could be taken for the server
    start = [sys.executable, PRESTO, "start", "--home", home, "--etc", etc, "--mark", mark, "--port", "1"]
    return subprocess.run(start, capture_output=True, text=True, check=True).stdout
