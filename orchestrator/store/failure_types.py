"""Why trials fail: a few causes, each with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from search_spaces.faults import did_you_mean, listed


class FailureType(StrEnum):
    """What a failed trial failed of."""

    OUT_OF_MEMORY = "out of memory"
    NON_FINITE = "non-finite loss"
    WORKER_LOST = "worker died or node lost"
    TIME = "time"
    CONFIGURATION = "bad configuration"
    CODE = "error in the code"

    @property
    def advice(self) -> str:
        """What may help."""
        return _ADVICE[self]

    @property
    def option(self) -> str:
        """What `--cause` calls it: `out_of_memory`."""
        return self.name.lower()


_ADVICE = {
    FailureType.OUT_OF_MEMORY: "give a trial more room, or a smaller batch: retry with --set resources.gpu=1 or --set "
    "training.batch_size=16, which is recorded; or let trials grow by themselves: resources.on_oom=grow",
    FailureType.NON_FINITE: "the same again unless code or data change; next time search a smaller learning rate",
    FailureType.WORKER_LOST: "may pass by itself: retry; if it comes back, look at the node and at the storage's logs",
    FailureType.TIME: "a retry goes on from its checkpoint and has the time once more; or give more "
    "(resources.trial_time), or let the best epoch so far count (resources.on_timeout=keep_best)",
    FailureType.CONFIGURATION: "values that do not fit together: narrow the space, or fix one of them",
    FailureType.CODE: "mend the code, then retry with --allow-changed",
}
WORKER_DIED, WORKER_SILENT, TRIAL_TIME = "WorkerDied", "WorkerSilent", "TrialTime"
CUT_SHORT = "its time was over after"  # how the warning of a trial begins that is complete at its best epoch so far
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "unable to allocate")


def failure_type_of(error_type: str | None, message: str | None) -> FailureType:
    """The cause of an error, by its type and, for what PyTorch raises as RuntimeError, by its words."""
    kind, words = error_type or "", (message or "").lower()
    if kind in ("OutOfMemoryError", "MemoryError") or any(each in words for each in _OUT_OF_MEMORY):
        return FailureType.OUT_OF_MEMORY
    if kind == "NonFiniteLoss":
        return FailureType.NON_FINITE
    if kind in (WORKER_DIED, WORKER_SILENT):
        return FailureType.WORKER_LOST
    if kind == TRIAL_TIME:
        return FailureType.TIME
    return FailureType.CONFIGURATION if kind in ("ExperimentError", "CorpusError") else FailureType.CODE


def place_of(traceback: str | None) -> str:
    """The innermost frame of a traceback, as `step.py:88 in take`, or nothing."""
    frames = list(_FRAME.finditer(traceback or ""))
    if not frames:
        return ""
    last = frames[-1]
    return f"{last['file'].rpartition('/')[2]}:{last['line']} in {last['function']}"


def causes(names: Iterable[str]) -> frozenset[FailureType]:
    """The causes that `--cause` calls so. Raises ValueError with all that there are."""
    known = {cause.option: cause for cause in FailureType}
    wanted = list(names)
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(
            f"got --cause {listed(unknown)}, expected some of {listed(known)}{did_you_mean(unknown[0], known)}"
        )
    return frozenset(known[name] for name in wanted)
