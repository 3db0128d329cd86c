"""The results of a storage as pandas DataFrames, for notebooks and scripts; nothing is ever written."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.findings import grid
from orchestrator.store import Store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Results:
    """Each access reads the storage anew, so that a run that is still going shows what it has come to."""

    storage: str
    warnings: list[str] = field(default_factory=list)  # one line for each file that had to be left out so far

    @classmethod
    def of(cls, storage: str | os.PathLike[str]) -> Results:
        """Raises StorageError where there is no storage."""
        return cls(storage=Store.open(storage).files.uri)

    @property
    def record(self) -> dict[str, Any]:
        """experiment.json: the resolved experiment, its studies, fingerprints, the command line."""
        return self._store().record.plain()

    @property
    def trials(self) -> pd.DataFrame:
        """One row per finished trial, by study, phase ('search' first), number and seed.

        `params`, `config`, `intermediate_values` and `versions` are JSON text: `trials["params"].map(json.loads)`.
        Whole numbers that some trials lack, as `best_epoch`, become floats.
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
        return grid.current(self._store()).to_pandas()

    def _store(self) -> Store:
        store = Store.open(self.storage)
        return Store(files=store.files, record=store.record, warnings_=self.warnings)
