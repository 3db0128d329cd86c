"""The Ray cluster a run works on: joined by its address, or started on this machine and stopped again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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
        """What Ray reserves for a trial of this scale."""
        return {"CPU": self.cpu * scale, "GPU": self.gpu * scale}


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connected to Ray; None starts it here for as long as the block runs. Raises ClusterError."""
    os.environ.update(_ENVIRONMENT)
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if address:
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(address="local", log_to_driver=False, include_dashboard=False)
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
    """How many trials there is room for, looked up anew every second, so that the cluster may grow."""

    def __init__(self, demand: Demand) -> None:
        self._demand, self._slots, self._looked_at = demand, 0, 0.0
        if self() < 1:
            raise ClusterError(
                f"no room for a single trial: it asks for {demand.cpu:g} CPU and {demand.gpu:g} GPU, the cluster has "
                f"{_total('CPU'):g} CPU and {_total('GPU'):g} GPU; change `resources:` of the experiment"
            )

    def __call__(self) -> int:
        if not self._slots or time.monotonic() - self._looked_at > 1.0:
            fits = min(int(_total(kind) / amount) for kind, amount in self._demand.bundle().items() if amount)
            self._slots = min(fits, self._demand.max_concurrent or fits)
            self._looked_at = time.monotonic()
        return self._slots

    def fits(self, scale: int) -> bool:
        """Whether some node has room for a trial of this scale."""
        import ray

        wanted = self._demand.bundle(scale)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return any(all(node.get(kind, 0.0) >= amount for kind, amount in wanted.items()) for node in nodes)


def _total(kind: str) -> float:
    import ray

    return ray.cluster_resources().get(kind, 0.0)
