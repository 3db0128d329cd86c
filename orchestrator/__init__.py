"""Sweeps and ablations on a cluster; `orchestrator.open(storage)` gives their results as DataFrames.

What is public stands in `__all__`; what it needs is imported at its first use.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msa_models.lazy import exports

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.store import StorageError, Store
    from search_spaces.faults import ExperimentError

__all__ = ["ExperimentError", "Results", "StorageError", "open"]


def open(storage: str | os.PathLike[str]) -> Results:
    """The results of a storage (a folder or a URI), also while a run is going on; raises StorageError if it is none."""
    return Results.of(storage)


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a storage as pandas DataFrames, for notebooks and scripts; nothing is ever written.

    Each access reads the storage anew, so that a run that is still going shows what it has come to.
    """

    storage: str
    warnings: list[str] = field(default_factory=list)  # one line for each file that had to be left out so far

    @classmethod
    def of(cls, storage: str | os.PathLike[str]) -> Results:
        """Raises StorageError where there is no storage."""
        from orchestrator.store import Store

        return cls(storage=Store.open(storage).files.uri)

    @property
    def record(self) -> dict[str, Any]:
        """experiment.json: the resolved experiment, its studies, fingerprints, the command line."""
        return self._store().record.plain()

    @property
    def trials(self) -> pd.DataFrame:
        """One row per finished trial, by study, phase ('search' first), number and seed.

        `params`, `config`, `intermediate_values`, `versions` and, where there are any, `changes` are JSON text:
        `trials["params"].map(json.loads)`. Whole numbers that some trials lack, as `best_epoch`, become floats.
        """
        return self._store().trials().to_pandas()

    @property
    def measurements(self) -> pd.DataFrame:
        """One row per epoch of each finished trial, by trial_id and epoch; NaN for what a trial does not measure."""
        return self._store().measurements().to_pandas()

    @property
    def predictions(self) -> pd.DataFrame:
        """One row per test sample of each finished confirm trial, by trial_id."""
        return self._store().predictions().to_pandas()

    @property
    def robustness(self) -> pd.DataFrame:
        """One row per condition of each trial that was evaluated so, by trial_id: kind, modalities, level, metrics."""
        return self._store().robustness().to_pandas()

    @property
    def grid(self) -> pd.DataFrame:
        """The grid of an ablation, one row per cell, split and metric; ValueError if the storage holds a sweep."""
        from orchestrator.findings import grid

        return grid.current(self._store()).to_pandas()

    def _store(self) -> Store:
        from orchestrator.store import Store

        store = Store.open(self.storage)
        return Store(files=store.files, record=store.record, warnings_=self.warnings)


__getattr__ = exports(__name__, {"ExperimentError": "search_spaces.faults", "StorageError": "orchestrator.store"})
