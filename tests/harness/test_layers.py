"""The order of imports that docs/architecture.md draws, held against every module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from gameday.paths import PROJECT
from lakehouse.python_packages import SHARED

PACKAGES = ("faults", "gameday", "lakehouse", "loadgen", "nodeimage", "probes", "runbooks")
# what may be read without a cluster: these layers need no other libraries than those
OFFLINE, LIBRARIES = ("verdict", "reading", "bottom"), {"yaml", "pydantic"}
# programs of nodes, which run there and belong to no layer
NOT_OURS = {"nodeimage/files"}


def path_of(module: str) -> Path | None:
    """Return the file of one of our modules, None where there is none of that name."""
    stem = PROJECT / Path(*module.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


@cache
def modules() -> dict[str, Path]:
    """Return all modules by name."""
    found = {"conftest": PROJECT / "conftest.py"} if (PROJECT / "conftest.py").exists() else {}
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            relative = path.relative_to(PROJECT)
            if str(relative.parent) not in NOT_OURS:
                found[".".join(relative.with_suffix("").parts).removesuffix(".__init__")] = path
    return found


@cache
def layers() -> dict[str, tuple[list[str], list[str]]]:
    """Return for each layer of the table its patterns of modules, and the layers it may import."""
    lines = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("| layer |")) + 2
    found = {}
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        name, patterns, allowed = (cell.strip() for cell in line.strip("|").split("|"))
        found[name] = ([one.strip(" `") for one in patterns.split(",")], [one for one in allowed.split(", ") if one])
    return found


def layers_of(module: str) -> list[str]:
    """Return the layers that a module belongs to; a pattern without a dot stands for a whole package."""
    return [
        name
        for name, (patterns, _) in layers().items()
        if any(fnmatch(module, one) or ("." not in one and module.startswith(f"{one}.")) for one in patterns)
    ]


@cache
def imports(module: str) -> tuple[str, ...]:
    """Return the absolute names of all that a module imports, also within functions."""
    return tuple(_imports(ast.parse(modules()[module].read_text(encoding="utf-8"))))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports are absolute"
            # `from gameday import judge` names a module, `from gameday.judge import Verdict` something in one
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules() else node.module for name in names)


def test_the_table_is_read() -> None:
    """An empty table would hold nothing."""
    assert list(layers()) == ["top", "output", "verdict", "acting", "system", "ground", "reading", "bottom"]
    assert layers_of("gameday.judge_impact") == ["verdict"]
    assert "gameday.records" in imports("gameday.measure")


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    """Every module is in one layer; it imports its own, and those that the table names beside it."""
    own = layers_of(module)
    wanted = [name for name in imports(module) if name.split(".")[0] in PACKAGES]
    if module == "gameday":
        assert not wanted, "the package itself is in no layer, or whatever imports a part of it would import all"
        return
    assert len(own) == 1, f"{module} belongs to {own or 'no layer'}: docs/architecture.md has to say where it is"
    allowed = {own[0], *layers()[own[0]][1]}
    for name in wanted:
        assert path_of(name), f"{module} imports {name}, which is not there"
        assert set(layers_of(name)) <= allowed, f"{module} ({own[0]}) imports {name} ({layers_of(name)})"
        if own == ["acting"] and layers_of(name) == ["acting"]:
            assert name.split(".")[0] == module.split(".", maxsplit=1)[0], (
                f"{module} imports {name}, another of the acting packages"
            )
        # faults, probes and load work against any lakehouse, also one that was not deployed here
        assert layers_of(name) != ["system"] or own != ["acting"] or module.startswith("runbooks."), (
            f"{module} imports {name}: of the acting packages only runbooks may know how the lakehouse is made"
        )


@pytest.mark.parametrize("module", [one for one in modules() if set(layers_of(one)) & set(OFFLINE)])
def test_what_judges_needs_no_cluster(module: str) -> None:
    """No client of Kubernetes or of an engine is imported where an old run is judged."""
    foreign = {name.split(".")[0] for name in imports(module)} - set(sys.stdlib_module_names) - set(PACKAGES)
    assert foreign <= LIBRARIES


@pytest.mark.parametrize("service", ["lakehouse.backup", "lakehouse.mds", "lakehouse.milvus", "lakehouse.spark"])
def test_a_service_stands_alone(service: str) -> None:
    """It is copied into an image in which nothing else of ours is but what services have in common."""
    shared = [f"lakehouse.{file.stem}" for file in SHARED]
    assert not [name for module in shared for name in imports(module) if name.split(".")[0] in PACKAGES]
    allowed = tuple(f"{name}." for name in (service, *shared))
    parts = [module for module in modules() if f"{module}.".startswith(f"{service}.")]
    assert parts
    for module in parts:
        wanted = [name for name in imports(module) if name.split(".")[0] in (*PACKAGES, "tests")]
        assert all(f"{name}.".startswith(allowed) for name in wanted), module
