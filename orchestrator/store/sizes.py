"""What a storage takes: files and bytes of each of its parts, from one listing of each folder."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.store.encodings import all_beside
from orchestrator.store.experiment_file import JOBS_PATH
from orchestrator.store.files import Files
from orchestrator.store.rows import spread

ENCODINGS = "encodings"  # which all storages side by side have in common
PARTS = {
    "trials": ("trials",),
    "measurements": ("measurements",),
    "predictions": ("predictions",),
    "robustness": ("robustness",),
    "checkpoints": ("running",),
    "models": ("models",),
    "logs": ("logs",),
    "other": ("", "runs", JOBS_PATH),  # experiment.json, the grid, records of runs, what SLURM was given and printed,
}  # and what was handed out, in `running` beside the checkpoints
_DEEP = ("running",)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many files, and how many bytes in all."""

    files: int
    bytes: int


def sizes(files: Files) -> dict[str, Size]:
    """The size of each part of a storage that has any, and of the encodings beside it. Raises StorageError.

    On an object store each thousand files cost a request. A file that is being written meanwhile may count or not.
    """
    folders = [folder for each in PARTS.values() for folder in each]
    listed = spread(files, lambda folder: files.sizes(folder, deep=folder in _DEEP), folders)
    in_folder = dict(zip(folders, listed, strict=True))
    found = {part: [each for folder in mine for each in in_folder[folder].values()] for part, mine in PARTS.items()}
    begun = [path for path in in_folder["running"] if path.endswith("/trial.json")]
    found["checkpoints"] = [each for path, each in in_folder["running"].items() if path not in begun]
    found["other"] += [in_folder["running"][path] for path in begun]
    found[ENCODINGS] = list(all_beside(files).sizes(deep=True).values())
    return {
        part: Size(files=len(each), bytes=sum(num_bytes for num_bytes, _ in each))
        for part, each in found.items()
        if each
    }
