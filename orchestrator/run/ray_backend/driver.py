"""The driver: the only module that drives ray.tune. One Tuner runs all studies of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from tempfile import TemporaryDirectory
from typing import Any

from msa_models.data import Corpus
from msa_models.data.lending import Lender
from orchestrator.plan.studies import Study
from orchestrator.run.campaign import Campaign
from orchestrator.run.choice import gains_by_sharing
from orchestrator.run.messages import Report
from orchestrator.run.output import Listener, Silent, captured
from orchestrator.run.provenance import Provenance, provenance
from orchestrator.run.ray_backend.apart import RunStopped, Stop, apart
from orchestrator.run.ray_backend.cluster import Autoscaling, Demand, Slots, capacity, cluster, nodes
from orchestrator.run.ray_backend.sharing import Sharing
from orchestrator.run.ray_backend.start import Services
from orchestrator.run.retries import Retry
from orchestrator.run.room import shortages
from orchestrator.run.run_record import RunRecord
from orchestrator.run.time_limit import OutOfTime, TimeLimit
from orchestrator.run.watchdog import Watchdog
from orchestrator.store import Lease, StorageError, Store
from orchestrator.store.steering import Steered

TRAIN = "orchestrator.run.workload:train"  # a name, because importing it imports torch, which only workers need


class Ending(StrEnum):
    """Why a run is over."""

    DONE = "all that is planned is finished"
    INTERRUPTED = "it was asked to stop"
    FAILING = "its first trials failed alike"
    OUT_OF_TIME = "its time is over"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a run ended; `states` counts all trials of the storage."""

    num_new: int
    num_planned: int
    states: dict[str, int]
    ended: Ending
    reason: str = ""  # why it has ended early, where its first trials failed alike

    @property
    def interrupted(self) -> bool:
        """Whether work is left."""
        return self.ended is not Ending.DONE


def run(
    store: Store,
    lease: Lease,
    studies: Sequence[Study],
    corpora: Callable[[], Mapping[str, Corpus]],
    *,
    begin: Callable[[bool], None] | None = None,
    demand: Demand | None = None,
    address: str | None = None,
    workload: str = TRAIN,
    retry: Retry | None = None,
    origin: Provenance | None = None,
    listener: Listener | None = None,
    limit: TimeLimit | None = None,
) -> Finished:
    """Train what is planned and not finished; where that is nothing, nothing is read or started.

    `corpora` reads, or makes, what the trials train on, by `inputs_key`. `begin` is called before that, and before
    anything is written, with whether everything is done already.

    The first Ctrl-C, or another signal that ends a run, lets running steps end, their checkpoints are on file, and
    returns `interrupted`, and so does the end of the `limit`; the second Ctrl-C raises KeyboardInterrupt, as does any
    signal once all is trained. Raises ClusterError or AccessError before anything is started, RunStopped after.
    `retry`: which failed trials are trained again. `origin`: what trains them, found out here where it is not given.
    `listener`: who hears how it goes.
    """
    demand, listener, out_of_time, failing = demand or Demand(), listener or Silent(), False, False
    campaign = Campaign(
        store,
        studies,
        origin or provenance(),
        retry=retry,
        restarts=demand.retries,
        time_s=demand.time_s,
        keep_best=demand.keep_best,
        stop_after=demand.stop_after,
    )
    if begin is not None:
        begin(campaign.done)
    campaign.keep_retries()
    if not campaign.done:
        try:
            read = dict(corpora())
            campaign.share_passes(lambda study: gains_by_sharing(study, read))
            training = _Training(campaign, store, lease, read, demand, workload, listener, limit, address)
            if limit is not None:
                limit.check()
            again = ("msa", "resume", store.files.uri, *(() if address is None else ("--address", address)))
            with captured(store.files, again) as terminal, listener.running(campaign, terminal), training.steered:
                listener.waits("Ray to start" if address is None else f"the Ray cluster at {address}")
                apart(training, training.stop, listener.say)
            out_of_time = training.stop.out_of_time
            failing = bool(campaign.stopped) and not training.stop.interrupted
            if campaign.done and training.stop.interrupted:
                raise KeyboardInterrupt
        except OutOfTime:
            out_of_time = True
    early = Ending.OUT_OF_TIME if out_of_time else Ending.FAILING if failing else Ending.INTERRUPTED
    return Finished(
        num_new=campaign.num_new,
        num_planned=campaign.num_planned,
        states=dict(campaign.states),
        ended=Ending.DONE if campaign.done else early,
        reason=campaign.stopped,
    )


class _Training:
    """All that needs Ray, from its start to its end; called in a thread of its own."""

    def __init__(
        self,
        campaign: Campaign,
        store: Store,
        lease: Lease,
        corpora: dict[str, Corpus],
        demand: Demand,
        workload: str,
        listener: Listener,
        limit: TimeLimit | None,
        address: str | None,
    ) -> None:
        self._campaign, self._store, self._lease, self._corpora = campaign, store, lease, corpora
        self._demand, self._workload, self._listener, self._address = demand, workload, listener, address
        self._limit, self.stop, self._services, self.steered = limit, Stop(limit), Services(), Steered(store.files)
        self.stop.end_services, self.stop.check_services = self._services.end, self._services.check

    def __call__(self) -> None:
        with cluster(self._address, self._services, self._listener.say, self._demand.num_gpus) as self.stop.head:
            self._listener.waits("workers to start")
            self._tune(grows=self._address is not None)

    def _tune(self, *, grows: bool) -> None:
        """`grows`: whether more nodes may join the cluster, as none joins one that is started here."""
        from ray import tune

        from orchestrator.run.ray_backend import tune_adapters
        from orchestrator.run.ray_backend.tune_state import TuneState

        campaign, demand, store = self._campaign, self._demand, self._store
        sharing = Sharing(demand.bundle(), capacity, self._most)
        slots = Slots(demand, grows=grows, most=self._most, share=sharing.share)
        autoscaling = Autoscaling(demand, self._most) if grows else None
        if autoscaling is not None:
            autoscaling.wait(slots if self._limit is None else self._limit.checked(slots), self._listener.say)
            sharing.look(slots())
        for changes in () if grows else campaign.changes:
            slots.require(demand.changed(changes))
        if demand.grow:
            campaign.grow(demand.retries, slots.fits)
        studies = [each.study for each in campaign.studies]
        if line := shortages(studies, self._corpora, nodes(demand), mapped=not grows):
            self._listener.say(line)
        record = RunRecord(store, slots(), self._limit)

        def heard(report: Report) -> None:
            self._lease.stop_if_lost()
            record.take(report, campaign.num_new, slots())

        watchdog = Watchdog(demand.silent_s)
        state = TuneState(
            campaign,
            slots,
            heard,
            autoscaling,
            self._limit,
            self._listener,
            watchdog,
            self.stop,
            self.steered,
            sharing if grows else None,
            self._lease.stop_if_lost,
        )
        lender = Lender()
        worker = tune.with_parameters(
            tune_adapters.Worker,
            corpora=self._corpora if grows else lender.lend(self._corpora),
            storage=store.files.uri,
            workload=self._workload,
            driver=self._lease.token,
            cpu=demand.cpu,
        )
        self._corpora.clear()  # the workers have them now
        self.stop.finish = lambda: record.write(campaign.settled().num_new)
        self.stop.trains = True
        try:
            while not (campaign.done or state.stopping):  # again if a trial was lost when no worker was kept for it
                _fit(tune.with_resources(worker, tune_adapters.room(demand)), state)
                state.rest()
        except Exception as error:
            if state.error is None:
                why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                raise RunStopped(f"Ray ended the run ({why}); {store.files.uri}/logs has more") from error
        finally:
            if autoscaling is not None:
                autoscaling.ask(0)
                sharing.leave()
            lender.close()
        if isinstance(state.error, StorageError):
            raise RunStopped(str(state.error)) from state.error
        if state.error is not None:  # a fault of this program
            raise state.error
        self.stop.write(self.stop.finish, None)

    def _most(self) -> int | None:
        return self.steered.wanted.max_concurrent or self._demand.max_concurrent


def _fit(worker: Any, state: Any) -> None:
    """One Tuner, until the campaign hands out nothing more and what runs has ended, or until a stop."""
    from ray import tune

    from orchestrator.run.ray_backend import frugal, tune_adapters

    with TemporaryDirectory(prefix="msa-ray-") as scratch, frugal.frugal():
        tune.Tuner(
            worker,
            tune_config=tune.TuneConfig(
                search_alg=tune_adapters.CampaignSearcher(state),
                scheduler=tune_adapters.CampaignScheduler(state),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="run",
                storage_path=scratch,
                stop=tune_adapters.CampaignStopper(state),
                callbacks=[tune_adapters.CampaignCallback(state)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=0),  # the campaign lets a lost trial start anew
                verbose=0,
            ),
        ).fit()
