"""What lies in a storage and is none of its files: copies of a synchroniser, pipes, links to nowhere; told by name.

What somebody keeps in the storage's own folder, such as notes or figures, is no fault unless it looks like a copy of a
file of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from orchestrator.store import checkpoints
from orchestrator.store.experiment_file import DROP_PATH, JOBS_PATH, LEASE_PATH, PATH
from orchestrator.store.files import Files
from orchestrator.store.rows import SAFE_NAME, strangers
from orchestrator.store.sealing import GRID, TABLES
from orchestrator.store.steering import STEERING_PATH

_STARTED = r"\d{8}T\d{6}\.\d{6}Z"
_FILES = (PATH, LEASE_PATH, STEERING_PATH, DROP_PATH, GRID, "report.html")
_FOLDERS = (*TABLES, "running", "runs", "models", "logs", JOBS_PATH, "encodings")
_COPY = re.compile(r"copy|conflict|\(\d+\)| \d+$|~|\.bak$|\.old$", re.IGNORECASE)
_OURS: dict[str, Callable[[str], bool]] = {
    "runs": lambda name: re.fullmatch(_STARTED + r"\.json", name) is not None,
    "logs": lambda name: re.fullmatch(_STARTED + r"\.log", name) is not None,
    "models": lambda name: name.endswith(".safetensors"),
    "running": lambda name: name == "trial.json" or checkpoints.is_checkpoint(name) or name.endswith(checkpoints.ASIDE),
    JOBS_PATH: lambda name: True,  # what jobs print has the name that their script gives it
}


def is_ours(folder: str, name: str) -> bool:
    """Whether a file in this folder, or in that of a trial in running/, has a name as we give them."""
    return _OURS[folder](name)


def others(files: Files) -> list[str]:
    """Files in the storage's own folder that are neither ours nor look like it: whoever put them there needs them."""
    return [name for name, is_file in files.entries().items() if is_file and name not in _FILES and not _is_copy(name)]


def all_strangers(files: Files) -> Iterator[tuple[str, str]]:
    """The folder and a line for each kind of stranger in it, but for the folders with rows, of which `read_rows` tells.

    Raises StorageError where a folder cannot be listed.
    """
    entries, folders = files.entries(), files.folders()
    here = {name: is_file or (name in folders and name not in _FILES) for name, is_file in entries.items()}
    yield from _told(files, "", here, lambda name: not _is_copy(name))
    for folder, is_ours in _OURS.items():
        if folder in folders and folder != "running":
            yield from _told(files, folder, files.entries(folder), is_ours)
    if "running" in folders:
        trials = files.folders("running")
        there = {name: is_file or name in trials for name, is_file in files.entries("running").items()}
        yield from _told(files, "running", there, lambda name: name in trials and bool(SAFE_NAME.fullmatch(name)))
        for folder in map(checkpoints.folder, filter(SAFE_NAME.fullmatch, trials)):
            yield from _told(files, folder, files.entries(folder), _OURS["running"])
    for folder in _OURS:
        if entries.get(folder) and folder not in folders:
            yield folder, f"{files.uri_of(folder)} is a file, expected a folder; move it away"


def _told(
    files: Files, folder: str, entries: Mapping[str, bool], is_ours: Callable[[str], bool]
) -> Iterator[tuple[str, str]]:
    for line in strangers(files, folder, entries, is_ours):
        yield folder.partition("/")[0] or "others", line


def _is_copy(name: str) -> bool:
    """Whether it looks like a copy of a file or folder of ours."""
    if name in (*_FILES, *_FOLDERS):
        return False
    for ours in (*_FILES, *_FOLDERS):
        stem, dot, suffix = ours.partition(".")
        unfinished = dot and name.startswith(f"{ours}.")  # a download, or what an editor has left
        if unfinished or (stem in name and dot + suffix in name and _COPY.search(name)):
            return True
    return False
