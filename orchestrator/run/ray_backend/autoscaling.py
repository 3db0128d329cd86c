"""Autoscaling: room that the run could use and the cluster does not have, shown to Ray's autoscaler.

The searcher hands out no more trials than there are slots, so that each suggestion knows as many results as possible;
an autoscaler would never hear of the rest. So a run whose slots are all taken holds placement groups that find no
place. Groups, because they belong to the driver's job and vanish with it, whoever kills it: what `request_resources`
asks for outlives a killed driver, and so would the machines. One bundle in each, because a group is placed as a whole.
Whether an autoscaler listens cannot be told from here; where none does they wait to no effect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.run.ray_backend.cluster import Demand, Slots, no_room

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

PATIENCE_S = 900.0  # until there is a first slot; a machine with GPUs takes minutes to start
AT_LEAST = 16  # otherwise as many more as there are: a cluster doubles until it is large enough


class Autoscaling:
    """What is asked for beyond the slots there are."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._groups: list[PlacementGroup] = []

    def wait(self, slots: Slots, say: Callable[[str], None]) -> None:
        """Until there is room for a trial. Raises ClusterError where none comes."""
        deadline = time.monotonic() + PATIENCE_S
        if not slots():
            say(f"no node has room for a trial: waiting up to {PATIENCE_S / 60:.0f} minutes for one")
        while not slots():
            if time.monotonic() > deadline:
                raise no_room(self._demand)
            self.ask(1)
            time.sleep(0.2)

    def ask(self, num_trials: int, slots: int = 0) -> None:
        """Ask for room for so many more trials than the slots there are; 0 where a slot is free or about to be taken,
        so that no group takes the place of a trial.
        """
        from ray.util import placement_group, remove_placement_group

        if self._demand.max_concurrent is not None:
            num_trials = min(num_trials, self._demand.max_concurrent - slots)
        num_groups = max(0, min(num_trials, max(slots, AT_LEAST)))
        while len(self._groups) > num_groups:
            remove_placement_group(self._groups.pop())
        while len(self._groups) < num_groups:
            self._groups.append(placement_group([self._demand.bundle()]))
