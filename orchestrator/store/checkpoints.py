"""The newest checkpoints of a running trial: written by its worker, looked for by whichever worker takes it up next.

The name of a checkpoint carries the CRC-32 of its content, so that a truncated or flipped one is told without parsing
it, and for how long its trial has trained, over all attempts. Two are kept: one that turns out to be damaged is set
aside, and the one before is used.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from orchestrator.store.faults import AbsentFile
from orchestrator.store.files import Files

_NAME = re.compile(r"epoch-(?P<epoch>\d{6,})-(?P<checksum>[0-9a-f]{8})(?:-(?P<busy_ms>\d+)ms)?\.safetensors")
ASIDE = ".damaged"  # behind the name: such a file is not read again, and goes with the folder of its trial
_NUM_KEPT = 2


def folder(trial_id: str) -> str:
    """Where a running trial keeps its files."""
    return f"running/{trial_id}"


def epochs(files: Files, trial_id: str) -> list[int]:
    """The epochs that have a checkpoint, ascending; whether it is whole is not looked at."""
    return sorted({each.epoch for each in _found(files, trial_id)})


def newest(files: Files, trial_id: str) -> str | None:
    """Where the newest checkpoint lies, whether it is whole or not; None where there is none."""
    found = _found(files, trial_id)
    return _path(trial_id, found[-1]) if found else None


def write(files: Files, trial_id: str, epoch: int, data: bytes, busy_s: float = 0.0) -> None:
    """Write the checkpoint of an epoch, or of one inside the next one, then remove all older ones but one.

    Of the same epoch that one is older for which the trial had trained less; others of it go, too.
    """
    new = _Checkpoint(epoch, _checksum(data), round(1_000 * busy_s))
    files.write(_path(trial_id, new), data)
    found = _found(files, trial_id)
    kept = [each for each in found if each.place < new.place][-(_NUM_KEPT - 1) :]
    for each in found:
        if each.epoch <= epoch and each not in (new, *kept):
            files.delete(_path(trial_id, each))


def read(files: Files, trial_id: str) -> Iterator[bytes]:
    """The whole checkpoints, newest first; those that are not are set aside."""
    for each in reversed(_found(files, trial_id)):
        try:
            with files.open(_path(trial_id, each)) as file:
                data = file.read(file.size())  # into one buffer: without a size there are two
        except AbsentFile:  # another worker of this trial has just moved on
            continue
        if _checksum(data) == each.checksum:
            yield data
        else:
            _set_aside(files, _path(trial_id, each), data)


def is_whole(name: str, data: bytes) -> bool | None:
    """Whether a checkpoint of this name has the content that its name says; None for what is no checkpoint."""
    match = _NAME.fullmatch(name)
    return None if match is None else _checksum(data) == match["checksum"]


def busy_s(files: Files, trial_id: str, data: bytes) -> float:
    """How long the trial had trained for the checkpoint with this content; 0 where nobody has said."""
    return (
        max((each.busy_ms for each in _found(files, trial_id) if each.checksum == _checksum(data)), default=0) / 1_000
    )


def is_checkpoint(path: str) -> bool:
    """Whether a file is called as checkpoints are."""
    return _NAME.fullmatch(path.rpartition("/")[2]) is not None


def progress(paths: Iterable[str]) -> tuple[int, float]:
    """Of the checkpoints of one trial how many epochs the newest has, and for how long it was trained, in s."""
    found = [match for path in paths if (match := _NAME.fullmatch(path.rpartition("/")[2]))]
    newest = max(found, key=lambda match: (int(match["epoch"]), int(match["busy_ms"] or 0)), default=None)
    return (0, 0.0) if newest is None else (int(newest["epoch"]), int(newest["busy_ms"] or 0) / 1_000)


def set_aside(files: Files, trial_id: str, data: bytes) -> None:
    """Let the checkpoints with this content not be read again: whole, and yet of no use to the trial."""
    for each in _found(files, trial_id):
        if each.checksum == _checksum(data):
            _set_aside(files, _path(trial_id, each), data)


class _Checkpoint(NamedTuple):
    """What a name says."""

    epoch: int
    checksum: str
    busy_ms: int

    @property
    def place(self) -> tuple[int, int]:
        """What is greater of a later one."""
        return self.epoch, self.busy_ms


def _found(files: Files, trial_id: str) -> list[_Checkpoint]:
    """The older ones first; files with other names are none of ours."""
    matches = (_NAME.fullmatch(name) for name in files.names(folder(trial_id)))
    found = (
        _Checkpoint(int(match["epoch"]), match["checksum"], int(match["busy_ms"] or 0)) for match in matches if match
    )
    return sorted(found, key=lambda each: (each.place, each.checksum))


def _set_aside(files: Files, path: str, data: bytes) -> None:
    """Written anew and then deleted, because object stores cannot rename."""
    files.write(path + ASIDE, data)
    files.delete(path)


def _path(trial_id: str, checkpoint: _Checkpoint) -> str:
    busy = f"-{checkpoint.busy_ms}ms" if checkpoint.busy_ms else ""
    return f"{folder(trial_id)}/epoch-{checkpoint.epoch:06d}-{checkpoint.checksum}{busy}.safetensors"


def _checksum(data: bytes) -> str:
    return f"{zlib.crc32(data):08x}"
