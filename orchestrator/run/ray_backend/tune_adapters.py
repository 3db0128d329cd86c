"""Our searcher, scheduler, stopper and worker as Ray Tune wants them: each passes on and adds nothing of its own.

All but the worker pass on to the campaign. An error in there would be swallowed or dressed up by Tune; it is kept, the
run is stopped, and the driver raises it.
"""

from __future__ import annotations

import os
import pkgutil
import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
from ray.tune import Callback, PlacementGroupFactory, Stopper, Trainable
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from msa_models.data.lending import borrowed
from orchestrator.run.endings import deaf
from orchestrator.run.messages import Assignment, Failure, inputs_key
from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.frugal import forget
from orchestrator.run.trial_runner import TrialRunner, out_of_reach
from orchestrator.store import Files, StorageError, Store
from orchestrator.store.failure_types import WORKER_DIED
from orchestrator.store.lease import driven_by

if TYPE_CHECKING:  # a worker needs nothing of the driver
    from orchestrator.run.ray_backend.tune_state import TuneState


def room(demand: Demand) -> Callable[[dict[str, Any]], PlacementGroupFactory]:
    """What Ray Tune reserves for a trial, by its scale and its changes."""
    known: dict[str, PlacementGroupFactory] = {}  # Tune compares those of all its trials, which identity cuts short

    def of(config: dict[str, Any]) -> PlacementGroupFactory:
        bundle = demand.changed(config.get("changes", {})).bundle(config.get("scale", 1))
        return known.setdefault(repr(bundle), PlacementGroupFactory([bundle]))

    return of


class CampaignSearcher(Searcher):
    """Asks the campaign for the next trial while a slot is free."""

    def __init__(self, state: TuneState) -> None:
        super().__init__()
        self._state = state

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._state.guarded(lambda: self._state.suggest(trial_id), Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:  # of the worker's process or node: what a trial raises arrives as a report
            failure = Failure(
                error_type=WORKER_DIED,
                message="the worker process or its node was lost, again after every retry",
                traceback="",
            )
            self._state.guarded(lambda: self._state.lose(trial_id, failure), None)

    def save(self, checkpoint_path: str) -> None:
        """Ray's own experiment state is disposable; ours is in the storage."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""


class CampaignScheduler(FIFOScheduler):
    """Lets the campaign decide at every report."""

    def __init__(self, state: TuneState) -> None:
        super().__init__()
        self._state = state

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """None: trials start in their order anyway, and FIFO's way to say so looks at every trial there ever was.

        Tune keeps a worker that has no trial, for the next one; here it goes where others could use its slot.
        """
        if self._state.leaves_workers:
            tune_controller._tune_controller._cleanup_cached_actors(force_all=True)  # ray 2.60.0
        forget(tune_controller._tune_controller)
        return None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        over = self._state.guarded(lambda: self._state.report(trial.trial_id, result["report"]), True)
        return TrialScheduler.STOP if over else TrialScheduler.CONTINUE


class CampaignStopper(Stopper):
    """Ends the run after a stop request, once running steps have come to their end."""

    def __init__(self, state: TuneState) -> None:
        self._state = state

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._state.guarded(self._state.look_after, None)
        return self._state.drained


class CampaignCallback(Callback):
    """Tells which trials have a worker, and keeps reports out of Ray's own experiment state."""

    def __init__(self, state: TuneState) -> None:
        self._state = state

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._state.guarded(lambda: self._state.start(trial.trial_id, lambda: _kill(trial)), None)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        result.pop("report", None)


def _kill(trial: Any) -> None:
    """End the process of a Ray trial's worker, if it has one."""
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)


class Worker(Trainable):
    """A warm process around a `TrialRunner`; `config` holds the assignments that it trains at once, as JSON.

    Ray sees an error only when a process or a node is lost; what a trial raises is part of its report.
    """

    def setup(
        self,
        config: dict[str, Any],
        corpora: Any = None,
        storage: str = "",
        workload: str = "",
        driver: str = "",
        cpu: float = 1.0,
    ) -> None:
        """`corpora`, by what a trial reads, are mapped or in the object store, not copied; `workload` names one.

        `driver`: the token of its lease. A worker of a driver that was stopped writes nothing where another one works.
        `cpu`: the slots of a trial that has no others.
        """
        deaf()
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin starve others
        if not ray.get_gpu_ids():  # asked for none: without this it would see, and use, all of the node
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.corpora = {key: borrowed(corpus) for key, corpus in (corpora or {}).items()}
        self.workload, self.fault = pkgutil.resolve_name(workload), ""
        try:
            self.store = Store.open(driven_by(Files.at(storage), driver))
        except StorageError as error:  # as on a node without the mount: no fault of any trial
            self.fault = f"{error} (on {platform.node()})"
        self.cpu = cpu
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next assignment; the process, torch and the corpora stay warm."""
        if not self.fault:
            first, *mates = [Assignment.from_json(each).on(self.cpu) for each in new_config["assignments"]]
            corpus = self.corpora[inputs_key(first.data_fingerprint, first.config)]
            self.runner = TrialRunner(first, corpus, self.store, self.workload, mates=mates)
        return True

    def step(self) -> dict[str, Any]:
        """One stretch of training."""
        return {"report": out_of_reach(self.fault) if self.fault else self.runner.stretch()}
