"""Where the harness keeps what is not in the checkout: builds in the cache, clusters and undo records in the state."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CONTRACT = PROJECT / "contract.yaml"


def _xdg(variable: str, fallback: str) -> Path:
    base = os.environ.get(variable)
    return (Path(base) if base else Path.home() / fallback) / "lakehouse-chaos"


def cache_dir() -> Path:
    """Return the folder of built programs and images; safe to delete, shared by all runs and checkouts."""
    path = _xdg("XDG_CACHE_HOME", ".cache")
    path.mkdir(parents=True, exist_ok=True)
    return path


def state_dir() -> Path:
    """Return the folder of kubeconfigs, credentials and undo records of the clusters that are up."""
    path = _xdg("XDG_STATE_HOME", ".local/state")
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path
