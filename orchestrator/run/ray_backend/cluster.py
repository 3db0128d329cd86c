"""The Ray cluster a run works on: joined by its address, or started on this machine and stopped again.

How many trials it has room for, and how its autoscaler hears of more that could run.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from orchestrator.run.ray_backend.auth import AccessError, AddressError, check_cluster
from orchestrator.run.ray_backend.lean import plain_workers
from orchestrator.run.ray_backend.start import PATIENT, ClusterError, Services, clear, session_folder, start
from orchestrator.run.room import Node

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

_ENVIRONMENT = {  # must be set before ray is imported
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # Ray's own experiment state is disposable
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",  # without it a custom searcher gets one worker; ours knows the slots
}

LOOK_EVERY_S = 1.0  # for nodes that joined or were lost
PATIENCE_S = 900.0  # until there is a first slot; a machine with GPUs takes minutes to start
AT_LEAST = 16  # otherwise as many more as there are: a cluster doubles until it is large enough


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one trial occupies, how many run at once (None: as many as the cluster holds), what is tried again, time.

    `retries`: how often a trial starts anew in this run; `grow`: whether one out of memory does, with twice the room.
    `time_s`: that a trial may train; `keep_best`: whether it is complete at its best epoch then. `silent_s`: without a
    word from a worker, after which it is given up. `num_gpus`: of this machine, that a Ray which is started here uses;
    None: all. `stop_after`: how many of the first trials may fail alike, see `FailingStart`.
    """

    cpu: float = 1.0
    gpu: float = 0.0
    max_concurrent: int | None = None
    retries: int = 2
    grow: bool = False
    time_s: float | None = None
    keep_best: bool = False
    silent_s: float | None = None
    num_gpus: int | None = None
    stop_after: int | None = None

    def changed(self, changes: Mapping[str, Any]) -> Demand:
        """What a trial with changes occupies, see `orchestrator.run.retries`."""
        cpu, gpu = changes.get("resources.cpu", self.cpu), changes.get("resources.gpu", self.gpu)
        return replace(self, cpu=cpu, gpu=gpu)

    def bundle(self, scale: int = 1) -> dict[str, float]:
        """What Ray reserves for a trial of this scale; beyond one, it hands out whole GPUs only."""
        gpu = self.gpu * scale
        return {"CPU": self.cpu * scale, "GPU": gpu if gpu <= 1 else math.ceil(gpu)}


@contextmanager
def cluster(
    address: str | None,
    services: Services | None = None,
    say: Callable[[str], None] = print,
    num_gpus: int | None = None,
) -> Iterator[str]:
    """Connected to Ray, whose head is at the host:port that this yields; without an address it is started here, for as
    long as the block runs. `services`: what then holds its processes, `num_gpus`: how many GPUs it uses, None: all.

    Raises AddressError, ClusterError, AccessError.
    """
    os.environ.update(_ENVIRONMENT if address else _ENVIRONMENT | PATIENT)
    import ray

    if ray.is_initialized():
        yield _head()
        return
    if address:
        try:
            check_cluster(address)
            ray.init(address=address, log_to_driver=False)
        except (AccessError, AddressError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ClusterError(f"cannot reach the Ray cluster at {address}: {reason}; nothing was trained") from error
    else:
        try:
            start(services or Services(), say, num_gpus)
        finally:  # they are of this Ray, and not of one that this process joins or starts later
            for name in PATIENT:
                os.environ.pop(name, None)
    well = False
    try:
        with nullcontext() if address else plain_workers():
            yield _head()
        well = True
    finally:
        session = None if address else session_folder()
        ray.shutdown()
        if session is not None:
            clear(session, keep=not well)


def _head() -> str:
    import ray

    return ray.get_runtime_context().gcs_address


class Slots:
    """How many trials there is room for, looked up anew now and then, so that the cluster may grow.

    Counted node by node, because a trial lies within one, and GPU by GPU where trials share them. Raises ClusterError
    where there is none, unless the cluster may grow. `most`: how many at once now, as `Demand.max_concurrent`; `share`:
    of how many how many are this run's.
    """

    def __init__(
        self,
        demand: Demand,
        *,
        grows: bool = False,
        most: Callable[[], int | None] | None = None,
        share: Callable[[int], int] = lambda fits: fits,
    ) -> None:
        self._demand, self._fits, self._looked_at = demand, 0, -math.inf
        self._most, self._share = most or (lambda: demand.max_concurrent), share
        if self() < 1 and not grows:
            raise _no_room(demand)

    def __call__(self) -> int:
        if time.monotonic() - self._looked_at > LOOK_EVERY_S:
            bundle = self._demand.bundle()
            self._fits = sum(_room_on(node, bundle) for node in _nodes())
            self._looked_at = time.monotonic()
        return self._share(min(self._fits, self._most() or self._fits))

    def fits(self, scale: int) -> bool:
        """Whether some node has room for a trial of this scale."""
        return any(_room_on(node, self._demand.bundle(scale)) for node in _nodes())

    def require(self, demand: Demand) -> None:
        """Raise ClusterError where no node has room for a trial that asks for more than others."""
        if not any(_room_on(node, demand.bundle()) for node in _nodes()):
            raise _no_room(demand)


class Autoscaling:
    """Room that the run could use and the cluster does not have, shown to Ray's autoscaler.

    The searcher hands out no more trials than there are slots, so that each suggestion knows as many results as
    possible; an autoscaler would never hear of the rest. So a run whose slots are all taken holds placement groups that
    find no place. Groups, because they belong to the driver's job and vanish with it, whoever kills it: what
    `request_resources` asks for outlives a killed driver, and so would the machines. One bundle in each, because a
    group is placed as a whole. Whether an autoscaler listens cannot be told from here; where none does the groups wait
    to no effect.
    """

    def __init__(self, demand: Demand, most: Callable[[], int | None] | None = None) -> None:
        self._demand, self._most = demand, most or (lambda: demand.max_concurrent)
        self._groups: list[PlacementGroup] = []

    def wait(self, slots: Callable[[], int], say: Callable[[str], None]) -> None:
        """Until there is room for a trial. Raises ClusterError where none comes."""
        deadline = time.monotonic() + PATIENCE_S
        if not slots():
            say(f"no node has room for a trial: waiting up to {PATIENCE_S / 60:.0f} minutes for one")
        while not slots():
            if time.monotonic() > deadline:
                raise _no_room(self._demand)
            self.ask(1)
            time.sleep(0.2)

    def ask(self, num_trials: int, slots: int = 0) -> None:
        """Ask for room for so many more trials than the slots there are; 0 where a slot is free or about to be taken,
        so that no group takes the place of a trial.
        """
        from ray.util import placement_group, remove_placement_group

        if (most := self._most()) is not None:
            num_trials = min(num_trials, most - slots)
        num_groups = max(0, min(num_trials, max(slots, AT_LEAST)))
        while len(self._groups) > num_groups:
            remove_placement_group(self._groups.pop())
        while len(self._groups) < num_groups:
            self._groups.append(placement_group([self._demand.bundle()]))


def _no_room(demand: Demand) -> ClusterError:
    """What to raise where no node, however empty, holds a trial."""
    nodes = sorted({f"{node.get('CPU', 0.0):g} CPU and {node.get('GPU', 0.0):g} GPU" for node in _nodes()})
    return ClusterError(
        f"no room for a single trial: it asks for {demand.cpu:g} CPU and {demand.gpu:g} GPU on one node, the nodes of "
        f"the cluster have {', '.join(nodes) or 'gone'}; change `resources:` of the experiment"
    )


def _nodes() -> list[dict[str, float]]:
    """What each node has, in use or not."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def capacity() -> dict[str, float]:
    """What all nodes have together, by kind of resource."""
    total = defaultdict[str, float](float)
    for node in _nodes():
        for kind, amount in node.items():
            total[kind] += amount
    return total


def nodes(demand: Demand) -> list[Node]:
    """How many trials each node holds, and what Ray says of its memory."""
    found = []
    for node in _nodes():
        fits = _room_on(node, demand.bundle())
        slots = min(fits, demand.max_concurrent or fits)
        found.append(Node(slots=slots, memory=node.get("memory"), store=node.get("object_store_memory")))
    return found


def _room_on(node: Mapping[str, float], bundle: Mapping[str, float]) -> int:
    """How many such bundles a node holds; in the ten-thousandths that Ray counts in, so that 0.3 is three of 0.1."""
    counts = []
    for kind, amount in bundle.items():
        has, needs = round(node.get(kind, 0.0) * 10_000), round(amount * 10_000)
        if kind == "GPU" and 0 < needs < 10_000:  # a share lies within one GPU
            counts.append(has // 10_000 * (10_000 // needs))
        elif needs:
            counts.append(has // needs)
    return min(counts, default=0)
