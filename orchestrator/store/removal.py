"""Trials removed with all that belongs to them.

Rows of trials/ go first: killed at any moment, a trial is finished with all that belongs to it, or it is not finished.
What is left then of trials that are gone belongs to none, and goes with the next removal.
"""

from __future__ import annotations

from collections.abc import Set

from orchestrator.store import checkpoints
from orchestrator.store.compaction import FOLDERS, remove_rows
from orchestrator.store.files import Files
from orchestrator.store.grid_file import GRID_PATH
from orchestrator.store.rows import ids_in, read_rows, spread

_TRIALS, *_OTHERS = FOLDERS
_MODEL = ".safetensors"


def remove_trials(files: Files, trial_ids: Set[str]) -> None:
    """Remove these trials, finished or not. Hold the `Lease`. Raises StorageError; it may be called again."""
    files.delete(GRID_PATH)  # which may be made of them
    remove_rows(files, _TRIALS, trial_ids)
    spread(files, files.delete, [checkpoints.folder(each) for each in files.folders("running") if each in trial_ids])
    models = {name.removesuffix(_MODEL) for name in files.names("models") if name.endswith(_MODEL)}
    gone = trial_ids | _without_trial(files, models)
    for folder in _OTHERS:
        remove_rows(files, folder, gone)
    spread(files, files.delete, [f"models/{each}{_MODEL}" for each in sorted(models & gone)])


def _without_trial(files: Files, models: set[str]) -> set[str]:
    """The ids of what belongs to no trial, finished or begun; none where any file of trials/ cannot be read."""
    if read_rows(files, _TRIALS, columns=("trial_id",), strict=True, whole=True).warnings:
        return set()
    known = ids_in(files, _TRIALS) | set(files.folders("running"))
    return models.union(*(ids_in(files, folder) for folder in _OTHERS)) - known
