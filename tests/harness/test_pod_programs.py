"""What of ours runs in pods is written for their Python, which is older than the harness's own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gameday.paths import PROJECT
from lakehouse.python_packages import SHARED

POD_PYTHON = (3, 11)
PACKAGES = ("backup", "kafka", "mds", "milvus", "spark")
PROGRAMS = sorted(
    {*SHARED, PROJECT / "lakehouse" / "__init__.py"}.union(
        *((PROJECT / "lakehouse" / name).rglob("*.py") for name in PACKAGES)
    )
)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_program_of_a_pod_can_be_read_by_its_python(path: Path) -> None:
    """A statement that came later would end the pod as it begins."""
    ast.parse(path.read_text(encoding="utf-8"), feature_version=POD_PYTHON)


def test_all_packages_are_looked_at() -> None:
    """Each has programs, and a later statement is seen."""
    assert {path.relative_to(PROJECT / "lakehouse").parts[0] for path in PROGRAMS} >= set(PACKAGES)
    with pytest.raises(SyntaxError, match=r"3\.12"):
        ast.parse("type Names = list[str]", feature_version=POD_PYTHON)
