"""Our searcher, scheduler, stopper and worker as Ray Tune wants them: each passes on and adds nothing of its own.

All but the worker pass on to the campaign. An error in there would be swallowed or dressed up by Tune; it is kept, the
run is stopped, and the driver raises it.
"""

from __future__ import annotations

import math
import os
import pkgutil
import platform
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
from ray.tune import Callback, PlacementGroupFactory, Stopper, Trainable
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.run.endings import deaf
from orchestrator.run.messages import Assignment, Failure, Report, inputs_key
from orchestrator.run.output import Listener, Silent
from orchestrator.run.pausing import Pausing
from orchestrator.run.ray_backend.apart import Stop
from orchestrator.run.ray_backend.cluster import Autoscaling, Demand
from orchestrator.run.time_limit import Pace, TimeLimit
from orchestrator.run.trial_runner import TrialRunner, out_of_reach
from orchestrator.run.watchdog import Watchdog
from orchestrator.store import StorageError, Store
from orchestrator.store.failure_types import WORKER_DIED
from orchestrator.store.steering import Steered

if TYPE_CHECKING:  # a worker needs no Optuna
    from orchestrator.run.campaign import Campaign


class TuneState:
    """What those in the driver share: the campaign, which Ray trial is which of ours, and whether to stop."""

    def __init__(
        self,
        campaign: Campaign,
        slots: Callable[[], int],
        on_report: Callable[[Report], None],
        autoscaling: Autoscaling | None = None,
        limit: TimeLimit | None = None,
        listener: Listener | None = None,
        watchdog: Watchdog | None = None,
        stop: Stop | None = None,
        steered: Steered | None = None,
    ) -> None:
        self.stop = stop or Stop()
        self.campaign, self.slots, self.on_report, self.autoscaling = campaign, slots, on_report, autoscaling
        self._listener, self._has_workers = listener or Silent(), False
        self._pausing = Pausing(steered, self._listener)
        self._pace = Pace(limit)
        self.error: BaseException | None = None
        self._ours: dict[str, Assignment] = {}  # by Ray's trial id, while it runs
        self._watchdog = watchdog or Watchdog(None)
        self._workers: dict[str, Callable[[], None]] = {}  # what kills them, by Ray's trial id
        self._given_up: dict[str, Failure] = {}
        self._without_worker: dict[str, float] = {}  # Ray's ids of those that wait for a worker, since when
        self._making_way = False
        self._num_slots, self._asked_at = 0, -math.inf

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()  # Tune pickles its searcher into a state of its own, which nobody reads

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for, or an error happened."""
        return self.stop.asked

    @property
    def drained(self) -> bool:
        """Whether to end the run now."""
        self.stop.look_at_the_clock()
        self._pausing.take_up()
        if not self._ours and not self._pace.has_room:  # nothing comes of waiting for the end
            self.stop.run_out()
        return self.stopping and (not self._ours or self.error is not None or self.stop.drained)

    def suggest(self, ray_id: str) -> dict[str, Any] | str | None:
        over, slots = self.stopping or self._pausing.paused or self.campaign.exhausted, self.slots()
        if self.autoscaling is not None:
            self._ask_for_room(self.autoscaling, slots, over)
        if over:
            return Searcher.FINISHED
        if len(self._ours) >= slots or not self._pace.has_room:
            return None
        assignment = self.campaign.next()
        if assignment is None:
            return None
        self._ours[ray_id] = assignment
        self._without_worker[ray_id] = time.monotonic()
        self._pace.begin(ray_id)
        self._listener.updated(trials=True)
        return {"assignment": assignment.to_json(), "scale": assignment.scale}

    def start(self, ray_id: str, kill: Callable[[], None] = lambda: None) -> None:
        """A Ray trial has a worker, which `kill` ends at once."""
        self._without_worker.pop(ray_id, None)
        if (assignment := self._ours.get(ray_id)) is not None:
            self._workers[ray_id] = kill
            self._watchdog.begin(ray_id, assignment)
        if not (self._has_workers or self._pausing.paused):
            self._has_workers = True
            self._listener.waits("the first epoch")

    def report(self, ray_id: str, report: Report) -> bool:
        """True when the Ray trial is to end."""
        self._pace.hear(ray_id)
        self._watchdog.hear(ray_id, report)
        self.on_report(report)
        over = self.stop.write(lambda: self.campaign.report(self._ours[ray_id].trial_id, report), True)
        if self._pausing.paused and not over and not self.stopping:  # what it has come to is on file
            self.campaign.put_back(self._ours[ray_id].trial_id)
            over = True
        if not (self.stopping or self._pausing.paused):
            self._listener.waits("")
        self._listener.updated(trials=over)
        if over or self.stopping:
            self._end(ray_id)
        return over or self.stopping

    def rest(self) -> None:
        """While the run is paused and nothing of it runs: Ray Tune has ended, since it keeps idle workers."""
        while self._pausing.paused and not self.stopping:
            time.sleep(0.2)
            self._has_workers = False
            self.stop.look_at_the_clock()
            self._pausing.take_up(resting=True)

    def lose(self, ray_id: str, failure: Failure) -> None:
        """A worker was lost, perhaps because it was given up."""
        assignment, failure = self._end(ray_id), self._given_up.pop(ray_id, failure)
        if assignment is not None and not self.stopping:
            self.stop.write(lambda: self.campaign.lose(assignment.trial_id, failure), None)

    def give_up(self) -> None:
        """Kill the workers that say nothing any more; Ray then loses them."""
        for ray_id, failure in self._watchdog.given_up().items() if not self.stopping else ():
            self._given_up[ray_id] = failure
            self._listener.say(f"{self._ours[ray_id].trial_id} is given up: {failure.message}")
            self._workers[ray_id]()

    def _end(self, ray_id: str) -> Assignment | None:
        self._without_worker.pop(ray_id, None)
        self._workers.pop(ray_id, None)
        self._watchdog.end(ray_id)
        return self._ours.pop(ray_id, None)

    def _ask_for_room(self, autoscaling: Autoscaling, slots: int, over: bool) -> None:
        """Every second, unless there is room for trials now, which what is asked for might take: a node has joined, or
        a trial waits longer for a worker than the moment between two trials of a worker.
        """
        now = time.monotonic()
        waiting_s = now - next(iter(self._without_worker.values()), now)
        if waiting_s > 1.0 or slots > self._num_slots:
            self._making_way = True
        elif len(self._ours) >= slots and not self._without_worker:
            self._making_way = False
        self._num_slots = slots
        if over or self._making_way:
            autoscaling.ask(0)
        elif now - self._asked_at > 1.0:
            self._asked_at = now
            autoscaling.ask(self.campaign.num_waiting - (slots - len(self._ours)), slots)

    def guarded(self, call: Callable[[], Any], otherwise: Any) -> Any:
        """The call's result, or `otherwise` once anything has gone wrong."""
        try:
            return call()
        except Exception as error:
            self.error = self.error or error
            self.stop.ask()
            return otherwise


def room(demand: Demand) -> Callable[[dict[str, Any]], PlacementGroupFactory]:
    """What Ray Tune reserves for a trial, by its scale."""
    return lambda config: PlacementGroupFactory([demand.bundle(config.get("scale", 1))])


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
        """None: trials start in their order anyway, and FIFO's way to say so looks at every trial there ever was."""
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
        self._state.guarded(self._state.give_up, None)
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
    """A warm process around a `TrialRunner`, one assignment after another; `config` holds one as JSON.

    Ray sees an error only when a process or a node is lost; what a trial raises is part of its report.
    """

    def setup(self, config: dict[str, Any], corpora: Any = None, storage: str = "", workload: str = "") -> None:
        """`corpora`, by what a trial reads, are in this machine's object store, not copied; `workload` names one."""
        deaf()
        if not ray.get_gpu_ids():  # asked for none: without this it would see, and use, all of the node
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.corpora, self.workload, self.fault = corpora, pkgutil.resolve_name(workload), ""
        try:
            self.store = Store.open(storage)
        except StorageError as error:  # as on a node without the mount: no fault of any trial
            self.fault = f"{error} (on {platform.node()})"
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next assignment; the process, torch and the corpora stay warm."""
        if not self.fault:
            assignment = Assignment.from_json(new_config["assignment"])
            corpus = self.corpora[inputs_key(assignment.data_fingerprint, assignment.config)]
            self.runner = TrialRunner(assignment, corpus, self.store, self.workload)
        return True

    def step(self) -> dict[str, Any]:
        """One stretch of training."""
        return {"report": out_of_reach(self.fault) if self.fault else self.runner.stretch()}
