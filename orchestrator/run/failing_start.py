"""A run whose first trials all fail alike is ended early: the rest would fail of the same, one after the other.

Alike is the same cause, type of error and place in the code. One trial that comes to its end, or is further than any
that has failed, shows that it is not everything that fails, and from then on nothing ends the run early. Where nothing
has come to its end before, a run that goes on counts on: one more that fails alike ends it again. Ray Tune's
`fail_fast` ends a run at the first failure, whenever it comes; this one is meant for what is wrong from the start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.run.messages import Failure
from orchestrator.store.failure_types import failure_type_of, place_of

AT_LEAST, TIMES_SLOTS = 5, 2  # failures, unless a number was asked for


class FailingStart:
    """Counts how the trials of one run end; `most`: so many that fail alike end it, 0 never, None as many as above.

    `before`: rows of failed trials, where no other has come to its end. `said`: why the run is to end, once it is.
    """

    def __init__(self, most: int | None, before: Iterable[Mapping[str, Any]] = ()) -> None:
        self._most, self._over, self.said = most, most == 0, ""
        self._counts = Counter(_alike(row["error_type"], row["error_message"], row["traceback"]) for row in before)
        self._num_epochs = self._num_slots = 0

    def succeeded(self) -> None:
        """A trial has come to its end, or was pruned."""
        self._over = True

    def failed(self, failure: Failure, num_epochs: int, running: list[int]) -> None:
        """One has failed after so many epochs, while others have come to theirs, which `running` has of each."""
        self._num_epochs, self._num_slots = max(self._num_epochs, num_epochs), max(self._num_slots, 1 + len(running))
        key = cause, error_type, place = _alike(failure.error_type, failure.message, failure.traceback)
        self._counts[key] += 1
        most = self._most or max(AT_LEAST, TIMES_SLOTS * self._num_slots)
        if self._over or self._counts[key] < most or max(running, default=0) > self._num_epochs:
            return
        first, *_ = failure.message.strip().splitlines() or [""]
        self.said = (
            f"stopped: the first trials fail alike, {self._counts[key]} of {cause} ({error_type}"
            f"{f' at {place}' * bool(place)}): {first}; no other was begun (resources.stop_after_failures)"
        )


def _alike(error_type: str | None, message: str | None, traceback: str | None) -> tuple[str, str, str]:
    """Cause, type of error and place."""
    return str(failure_type_of(error_type, message)), error_type or "", place_of(traceback)
