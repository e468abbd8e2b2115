"""Python packages for the Python of pods, and where a service written here goes beside them."""

from __future__ import annotations

import sys
from pathlib import Path

from gameday.shell import run
from nodeimage.cache import artefact, key_of
from nodeimage.image import pod_root_file_system
from nodeimage.rootfs import POD_PACKAGES, compile_python
from nodeimage.steps import log_file, step

# What the services written here have in common.
# What services written here have in common.
SHARED = tuple(Path(__file__).parent / name for name in ("environment.py", "serving.py"))
# Debian 12's, which the root file system of pods has
_POD_PYTHON = "3.11"
SITE = f"/usr/local/lib/python{_POD_PYTHON}/dist-packages"
_COMPILED = "compiled, unchecked"
_DEADLINE_S = 900.0


def packages_key(requirements: Path) -> str:
    """Return the key of what `python_packages` is made of, the root file system of pods included."""
    return key_of(requirements, _POD_PYTHON, _COMPILED, *POD_PACKAGES)


def python_packages(name: str, title: str, requirements: Path) -> Path:
    """Return a folder with these packages for the Python of pods, installed where it is not there yet."""

    def build(folder: Path) -> None:
        log = log_file(f"{name}-packages")
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(folder)]
        command += ["--python-version", _POD_PYTHON, "--only-binary=:all:", "--requirement", str(requirements)]
        with step(f"Python packages of {title}"):
            run(command, deadline_s=_DEADLINE_S, log=log)
            compile_python(pod_root_file_system(), folder, SITE, log)

    return artefact(f"{name}-packages", packages_key(requirements), build)


def service_files(package: Path) -> dict[str, Path]:
    """Return what the layer of a service written here holds: the package, and what services have in common."""
    init = package.parent / "__init__.py"
    return {f"{SITE}/lakehouse/{part.name}": part for part in (init, *SHARED, package)}
