"""The Ray cluster a run works on: joined by its address, or started on this machine and stopped again."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.run.ray_backend.auth import AccessError, check_cluster, loopback_only

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


class ClusterError(ValueError):
    """Ray cannot be started or reached, or has no room for a trial."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one trial occupies, how many run at once (None: as many as the cluster holds), and what is tried again.

    `retries`: how often a trial starts anew in this run; `grow`: whether one out of memory does, with twice the room.
    """

    cpu: float = 1.0
    gpu: float = 0.0
    max_concurrent: int | None = None
    retries: int = 2
    grow: bool = False

    def bundle(self, scale: int = 1) -> dict[str, float]:
        """What Ray reserves for a trial of this scale; beyond one, it hands out whole GPUs only."""
        gpu = self.gpu * scale
        return {"CPU": self.cpu * scale, "GPU": gpu if gpu <= 1 else math.ceil(gpu)}


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connected to Ray; None starts it here for as long as the block runs. Raises ClusterError, AccessError."""
    os.environ.update(_ENVIRONMENT)
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if address:
            check_cluster(address)
            ray.init(address=address, log_to_driver=False)
        else:
            with loopback_only():
                ray.init(
                    address="local",
                    log_to_driver=False,
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",  # ray 2.60.0: the only way to say where a node listens
                )
    except AccessError:
        raise
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = f"reach the Ray cluster at {address}" if address else "start Ray on this machine"
        raise ClusterError(f"cannot {where}: {' '.join(str(error).split())}") from error
    try:
        yield
    finally:
        with _signals_ignored():  # a shutdown cut short leaves processes behind
            ray.shutdown()


@contextmanager
def _signals_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Slots:
    """How many trials there is room for, looked up anew now and then, so that the cluster may grow.

    Counted node by node, because a trial lies within one, and GPU by GPU where trials share them. Raises ClusterError
    where there is none, unless the cluster may grow.
    """

    def __init__(self, demand: Demand, *, grows: bool = False) -> None:
        self._demand, self._slots, self._looked_at = demand, 0, -math.inf
        if self() < 1 and not grows:
            raise no_room(demand)

    def __call__(self) -> int:
        if time.monotonic() - self._looked_at > LOOK_EVERY_S:
            bundle = self._demand.bundle()
            fits = sum(_room_on(node, bundle) for node in _nodes())
            self._slots = min(fits, self._demand.max_concurrent or fits)
            self._looked_at = time.monotonic()
        return self._slots

    def fits(self, scale: int) -> bool:
        """Whether some node has room for a trial of this scale."""
        return any(_room_on(node, self._demand.bundle(scale)) for node in _nodes())


def no_room(demand: Demand) -> ClusterError:
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
