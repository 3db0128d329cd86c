"""Our searcher, scheduler and stopper in Ray Tune's clothes: each passes on to the campaign and adds nothing of its
own.

An error in here would be swallowed or dressed up by Tune; it is kept, the run is stopped, and the driver raises it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune import Callback, PlacementGroupFactory, Stopper
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.run.campaign import Campaign
from orchestrator.run.cluster import Demand
from orchestrator.run.report import Failure, Report
from orchestrator.store.causes import WORKER_DIED

DRAIN_S = 9.0  # after the first Ctrl-C, how long running steps get to come to their end


class Conduct:
    """What the three share: the campaign, which Ray trial is which of ours, and whether to stop."""

    def __init__(self, campaign: Campaign, slots: Callable[[], int], on_report: Callable[[Report], None]) -> None:
        self.campaign, self.slots, self.on_report = campaign, slots, on_report
        self.error: BaseException | None = None
        self._ours: dict[str, str] = {}  # Ray's trial id -> ours, while it runs
        self._stop_since: float | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()  # Tune pickles its searcher into a state of its own, which nobody reads

    def request_stop(self) -> None:
        """Start nothing new, let running steps finish."""
        self._stop_since = self._stop_since or time.monotonic()

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for, or an error happened."""
        return self._stop_since is not None

    @property
    def drained(self) -> bool:
        """Whether to end the run now."""
        if self._stop_since is None:
            return False
        return not self._ours or self.error is not None or time.monotonic() - self._stop_since > DRAIN_S

    def suggest(self, ray_id: str) -> dict[str, Any] | str | None:
        if self.stopping or self.campaign.done:
            return Searcher.FINISHED
        if len(self._ours) >= self.slots():
            return None
        assignment = self.campaign.next()
        if assignment is None:
            return None
        self._ours[ray_id] = assignment.trial_id
        return {"assignment": assignment.to_json(), "scale": assignment.scale}

    def report(self, ray_id: str, report: Report) -> bool:
        """True when the Ray trial is to end."""
        self.on_report(report)
        over = self.campaign.report(self._ours[ray_id], report)
        if over or self.stopping:
            del self._ours[ray_id]
        return over or self.stopping

    def lose(self, ray_id: str, failure: Failure) -> None:
        trial_id = self._ours.pop(ray_id, None)
        if trial_id is not None and not self.stopping:
            self.campaign.lose(trial_id, failure)

    def guarded(self, call: Callable[[], Any], otherwise: Any) -> Any:
        """The call's result, or `otherwise` once anything has gone wrong."""
        try:
            return call()
        except Exception as error:
            self.error = self.error or error
            self.request_stop()
            return otherwise


def room(demand: Demand) -> Callable[[dict[str, Any]], PlacementGroupFactory]:
    """What Ray Tune reserves for a trial, by its scale."""
    return lambda config: PlacementGroupFactory([demand.bundle(config.get("scale", 1))])


class CampaignSearcher(Searcher):
    """Asks the campaign for the next trial while a slot is free."""

    def __init__(self, conduct: Conduct) -> None:
        super().__init__()
        self._conduct = conduct

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._conduct.guarded(lambda: self._conduct.suggest(trial_id), Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:  # the worker's process or node, beyond Ray's retries: what a trial raises arrives as a report
            failure = Failure(
                error_type=WORKER_DIED,
                message="the worker process or its node was lost, again after every retry",
                traceback="",
            )
            self._conduct.guarded(lambda: self._conduct.lose(trial_id, failure), None)

    def save(self, checkpoint_path: str) -> None:
        """Ray's own experiment state is disposable; ours is in the storage."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""


class CampaignScheduler(FIFOScheduler):
    """Lets the campaign decide at every report."""

    def __init__(self, conduct: Conduct) -> None:
        super().__init__()
        self._conduct = conduct

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        over = self._conduct.guarded(lambda: self._conduct.report(trial.trial_id, result["report"]), True)
        return TrialScheduler.STOP if over else TrialScheduler.CONTINUE


class CampaignStopper(Stopper):
    """Ends the run after a stop request, once running steps have come to their end."""

    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._conduct.drained


class ForgetReports(Callback):
    """Keeps reports out of Ray's own experiment state."""

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        result.pop("report", None)
