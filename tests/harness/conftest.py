"""What tests without a cluster share, and is dear to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from backup_lab import BackupLab
from milvus_lab import MilvusLab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusLab]:
    """Return a lab with replicas `one` and `two` of Milvus, which flush only when they are asked to."""
    made = MilvusLab(tmp_path_factory.mktemp("milvus"))
    try:
        made.begin()
        for name in ("one", "two"):
            made.replica(name, flush_seconds="3600", log_seconds="3")
        for name in ("one", "two"):
            made.await_replica(name)
        yield made
    finally:
        made.end_all()


@pytest.fixture(scope="session")
def backup_lab() -> Iterator[BackupLab]:
    """Return a region with a store of backups and nothing else; its tests are in one group, so that there is one."""
    made = BackupLab()
    try:
        made.begin()
        yield made
    finally:
        made.end()
