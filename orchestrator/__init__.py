"""Sweeps and ablations on a cluster; `orchestrator.open(storage)` gives their results as DataFrames."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.findings.results import Results

__all__ = ["open"]


def open(storage: str | os.PathLike[str]) -> Results:
    """The results of a storage (a folder or a URI), also while a run is going on; raises StorageError if it is none."""
    from orchestrator.findings.results import Results

    return Results.of(storage)
