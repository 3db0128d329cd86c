"""A run whose first trials all fail alike is ended early: the rest would fail of the same, one after the other.

Alike is the same cause, type of error and place in the code. One trial that comes to its end, or is further than any
that has failed, shows that it is not everything that fails, and from then on nothing ends the run early. Ray Tune's
`fail_fast` ends a run at the first failure, whenever it comes; this one is meant for what is wrong from the start.
"""

from __future__ import annotations

from collections import Counter

from orchestrator.run.messages import Failure
from orchestrator.store.failure_types import failure_type_of, place_of

AT_LEAST, TIMES_SLOTS = 5, 2  # failures, unless a number was asked for


class FailingStart:
    """Counts how the trials of one run end; `most`: so many that fail alike end it, 0 never, None as many as above.

    `said`: why the run is to end, once it is.
    """

    def __init__(self, most: int | None) -> None:
        self._most, self._over, self.said = most, most == 0, ""
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._num_epochs = self._num_slots = 0

    def succeeded(self) -> None:
        """A trial has come to its end, or was pruned."""
        self._over = True

    def failed(self, failure: Failure, num_epochs: int, running: list[int]) -> None:
        """One has failed after so many epochs, while others have come to theirs, which `running` has of each."""
        self._num_epochs, self._num_slots = max(self._num_epochs, num_epochs), max(self._num_slots, 1 + len(running))
        cause, place = failure_type_of(failure.error_type, failure.message), place_of(failure.traceback)
        key = str(cause), failure.error_type, place
        self._counts[key] += 1
        most = self._most or max(AT_LEAST, TIMES_SLOTS * self._num_slots)
        if self._over or self._counts[key] < most or max(running, default=0) > self._num_epochs:
            return
        first, *_ = failure.message.strip().splitlines() or [""]
        self.said = (
            f"stopped: the first trials fail alike, {most} of {cause} ({failure.error_type}"
            f"{f' at {place}' * bool(place)}): {first}; no other was begun (resources.stop_after_failures)"
        )
