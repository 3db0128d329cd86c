"""The newest checkpoints of a running trial: written by its worker, looked for by whichever worker takes it up next.

Two are kept, so that a checkpoint that turns out to be damaged leaves an older one to go on from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.store.faults import AbsentFile
from orchestrator.store.files import Files

_NAME = re.compile(r"epoch-(\d+)\.safetensors")
_NUM_KEPT = 2


def folder(trial_id: str) -> str:
    """Where a running trial keeps its files."""
    return f"running/{trial_id}"


def epochs(files: Files, trial_id: str) -> list[int]:
    """The epochs that have a checkpoint, ascending."""
    matches = (_NAME.fullmatch(name) for name in files.names(folder(trial_id)))
    return sorted(int(match[1]) for match in matches if match)


def write(files: Files, trial_id: str, epoch: int, data: bytes) -> None:
    """Write the checkpoint of an epoch, then remove all older ones but one."""
    files.write(_path(trial_id, epoch), data)
    older = [each for each in epochs(files, trial_id) if each < epoch]
    for each in older[: len(older) - (_NUM_KEPT - 1)]:
        files.delete(_path(trial_id, each))


def read(files: Files, trial_id: str) -> Iterator[bytes]:
    """The checkpoints, newest first: take the first that is whole."""
    for epoch in reversed(epochs(files, trial_id)):
        try:
            data = files.read(_path(trial_id, epoch))
        except AbsentFile:  # another worker of this trial has just moved on
            continue
        yield data


def _path(trial_id: str, epoch: int) -> str:
    return f"{folder(trial_id)}/epoch-{epoch:06d}.safetensors"
