"""Sweeps and ablations on a cluster; `orchestrator.open(storage)` gives their results as DataFrames.

What is public stands in `__all__`; it is imported at its first use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msa_models.lazy import exports

if TYPE_CHECKING:
    from orchestrator.findings.results import Results
    from orchestrator.store import StorageError
    from search_spaces.faults import ExperimentError

__all__ = ["ExperimentError", "Results", "StorageError", "open"]


def open(storage: str | os.PathLike[str]) -> Results:
    """The results of a storage (a folder or a URI), also while a run is going on; raises StorageError if it is none."""
    from orchestrator.findings.results import Results

    return Results.of(storage)


__getattr__ = exports(
    __name__,
    {
        "ExperimentError": "search_spaces.faults",
        "Results": "orchestrator.findings.results",
        "StorageError": "orchestrator.store",
    },
)
