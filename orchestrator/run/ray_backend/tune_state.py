"""What the parts of ours that Ray Tune calls share: which Ray trial is which of ours, who waits, whether to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from orchestrator.run.messages import Assignment, Failure, Report
from orchestrator.run.output import Listener, Silent
from orchestrator.run.ray_backend.apart import Stop
from orchestrator.run.ray_backend.cluster import Autoscaling
from orchestrator.run.ray_backend.sharing import Sharing
from orchestrator.run.time_limit import Pace, TimeLimit
from orchestrator.run.watchdog import Watchdog
from orchestrator.store.steering import Steered, Steering

if TYPE_CHECKING:
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
        sharing: Sharing | None = None,
        holds: Callable[[], None] = lambda: None,
    ) -> None:
        self._holds = holds  # raises where this run holds its storage no longer
        self.stop = stop or Stop()
        self.campaign, self.slots, self.on_report, self.autoscaling = campaign, slots, on_report, autoscaling
        self._listener, self._has_workers = listener or Silent(), False
        self._pausing, self._sharing = _Pausing(steered, self._listener), sharing
        self._waited_for = ""
        self._num_others = 0  # other runs on the cluster, as was last said
        self._pace = Pace(limit)
        self.error: BaseException | None = None
        self._ours: dict[str, list[Assignment]] = {}  # those of a Ray trial that run, by its id
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
        self._look_around()
        self._pausing.take_up()
        if not self._ours and not self._pace.has_room:  # nothing comes of waiting for the end
            self.stop.run_out()
        return self.stopping and (not self._ours or self.error is not None or self.stop.drained)

    def suggest(self, ray_id: str) -> dict[str, Any] | str | None:
        self._look_around()  # while nothing of a run runs, this is all that Tune calls
        over, slots = self._hands_out_nothing, self.slots()
        if self.autoscaling is not None:
            self._ask_for_room(self.autoscaling, slots, over)
        if over:
            return Searcher.FINISHED
        if len(self._ours) >= slots or not self._pace.has_room:
            return None
        assignment = self.campaign.next()
        if assignment is None:
            return None
        self._ours[ray_id] = several = self.campaign.together(assignment)
        self._without_worker[ray_id] = time.monotonic()
        self._pace.begin(ray_id)
        self._listener.updated(trials=True)
        assignments = [each.to_json() for each in several]
        return {"assignments": assignments, "scale": assignment.scale, "changes": dict(assignment.changes)}

    @property
    def leaves_workers(self) -> bool:
        """Whether workers without a trial are in others' way: this run has, or waits for, all that it may have."""
        return not self._without_worker and len(self._ours) >= self.slots()

    @property
    def _hands_out_nothing(self) -> bool:
        return self.stopping or self._pausing.paused or self.campaign.exhausted

    def start(self, ray_id: str, kill: Callable[[], None] = lambda: None) -> None:
        """A Ray trial has a worker, which `kill` ends at once."""
        self._without_worker.pop(ray_id, None)
        if several := self._ours.get(ray_id):
            self._workers[ray_id] = kill
            self._watchdog.begin(ray_id, several[0])
        if not (self._has_workers or self._pausing.paused):
            self._has_workers = True
            self._listener.waits("the first epoch")

    def report(self, ray_id: str, report: Report) -> bool:
        """True when the Ray trial is to end."""
        self._pace.hear(ray_id)
        self._watchdog.hear(ray_id, report)
        several = self._ours[ray_id]
        ids = [each.trial_id for each in several]
        for each in ids:
            self.on_report(report.of(each))
        going_on = self.stop.write(lambda: self.campaign.reports(ids, report), [])
        left = [each for each in several if each.trial_id in going_on]
        self._look_at_failures()
        if self._pausing.paused and not self.stopping:  # what they have come to is on file
            for each in reversed(left):
                self.campaign.put_back(each.trial_id)
            left = []
        if not (self.stopping or self._pausing.paused):
            self._wait("")
        self._listener.updated(trials=len(left) < len(several))
        self._ours[ray_id], over = left, not left
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
        several, failure = self._end(ray_id), self._given_up.pop(ray_id, failure)
        for each in reversed(several) if not self.stopping else ():
            self.stop.write(lambda trial_id=each.trial_id: self.campaign.lose(trial_id, failure), None)
            self._look_at_failures()

    def look_after(self) -> None:
        """See that the storage is still this run's (else StorageError), kill silent workers, which Ray then loses."""
        if self.stopping:
            return
        self._holds()
        for ray_id, failure in self._watchdog.given_up().items():
            self._given_up[ray_id] = failure
            names = " and ".join(each.trial_id for each in self._ours[ray_id])
            self._listener.say(f"{names} is given up: {failure.message}")
            self._workers[ray_id]()

    def _look_at_failures(self) -> None:
        if self.campaign.stopped:
            self.stop.ask()

    def _end(self, ray_id: str) -> list[Assignment]:
        self._without_worker.pop(ray_id, None)
        self._workers.pop(ray_id, None)
        self._watchdog.end(ray_id)
        return self._ours.pop(ray_id, [])

    def _ask_for_room(self, autoscaling: Autoscaling, slots: int, over: bool) -> None:
        """Every second, unless there is room for trials now, which what is asked for might take: a node has joined, or
        a trial waits longer for a worker than the moment between two trials of a worker.
        """
        now = time.monotonic()
        if self._waits or slots > self._num_slots:
            self._making_way = True
        elif len(self._ours) >= slots and not self._without_worker:
            self._making_way = False
        self._num_slots = slots
        if over or self._making_way or (self._sharing is not None and self._sharing.others_wait):
            autoscaling.ask(0)
        elif now - self._asked_at > 1.0:
            self._asked_at = now
            autoscaling.ask(self.campaign.num_waiting - (slots - len(self._ours)), slots)

    @property
    def _waits(self) -> bool:
        """Whether a trial waits for a worker, longer than between two trials of one."""
        now = time.monotonic()
        return now - next(iter(self._without_worker.values()), now) > 1.0

    def _look_around(self) -> None:
        """What may have changed without a word of a worker."""
        self.stop.look_at_the_clock()
        if self._sharing is not None and self._sharing.is_due:
            self._look_at_others(self._sharing)

    def _wait(self, what: str) -> None:
        if what != self._waited_for or not what:
            self._waited_for = what
            self._listener.waits(what)

    def _look_at_others(self, sharing: Sharing) -> None:
        """Of this cluster; where some have come, or all are gone, it is said."""
        over = self._hands_out_nothing
        sharing.look(len(self._ours) + (0 if over else self.campaign.num_waiting), waits=self._waits)
        slots = self.slots()
        if sharing.num_others and not (self._ours or over):
            self._wait("workers to start" if slots else "a slot, which other runs have")
        if sharing.num_others == self._num_others:
            return
        self._num_others = sharing.num_others
        if not self._num_others:
            self._listener.say("this run has the cluster for itself again")
            return
        share = f"this one trains at most {slots} trial{'s' * (slots != 1)} at a time" if slots else "this one waits"
        self._listener.say(f"{1 + self._num_others} runs share the cluster: {share}")

    def guarded(self, call: Callable[[], Any], otherwise: Any) -> Any:
        """The call's result, or `otherwise` once anything has gone wrong."""
        try:
            return call()
        except Exception as error:
            self.error = self.error or error
            self.stop.ask()
            return otherwise


class _Pausing:
    """How a run takes up what is asked of it while it goes on, and says so.

    `paused`: whether trials are to be put back and none handed out; so it stays until the run rests.
    """

    def __init__(self, steered: Steered | None, listener: Listener) -> None:
        self._steered, self._listener = steered, listener
        self._taken_up = Steering()

    @property
    def paused(self) -> bool:
        return self._taken_up.paused

    def take_up(self, *, resting: bool = False) -> None:
        """What is asked since it was last looked at; `resting`: nothing of a paused run runs any more."""
        before = self._taken_up
        if self._steered is None or (before.paused and not resting):
            return
        self._taken_up = wanted = self._steered.wanted
        if wanted.max_concurrent != before.max_concurrent:
            self._listener.say(
                f"from now on at most {wanted.max_concurrent} trial{'s' * (wanted.max_concurrent != 1)} at a time"
            )
        if wanted.paused and not before.paused:
            self._listener.say("paused: trials that run come to their next checkpoint and are put back")
            self._listener.waits("`msa unpause`")
        elif before.paused and not wanted.paused:
            self._listener.say("no longer paused")
            self._listener.waits("workers to start")
