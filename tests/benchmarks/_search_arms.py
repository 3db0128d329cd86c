"""Searches of `search_quality` within a wall time, start-up included: `python -m tests.benchmarks._search_arms …`.

Ours are runs of the product, whose listener ends the search when its time is over, less what the choice among the best
few will take. The pool is what one writes without it: processes that train what Optuna's TPE asks for, and report every
epoch to Optuna's own SuccessiveHalvingPruner. All train by the same code, on as many slots.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, TextIO
from unittest.mock import patch

from msa_models.data import Corpus
from orchestrator.plan.studies import Study
from orchestrator.run.campaign import Campaign
from orchestrator.run.launch import launch
from orchestrator.run.output import Silent
from orchestrator.run.preparation import Prepared, prepare
from orchestrator.run.study_state import StudyState
from orchestrator.store import Store
from orchestrator.store.selection import best_trial, chosen_params
from search_spaces.changes import selected
from search_spaces.loading import load

POOL = "pool"
ARMS: dict[str, tuple[str, ...]] = {
    "default": (),
    "random": ("search.sampler=random",),
    POOL: (),
    "seeds 2": ("search.seeds=2",),
    "seeds 3": ("search.seeds=3",),
    "folds 4": ("search.folds=4",),
    "top 3": ("confirm.top=3",),
    "top 5": ("confirm.top=5",),
}
SLOTS = min(2, os.cpu_count() or 1)
NEVER = 100_000  # trials, which no search comes to


def prepared(corpus: str, repetition: int, overrides: tuple[str, ...] = ()) -> Prepared:
    """The study `concat` of the shipped `balance`, with a search seed of its own for each repetition."""
    common = (f"data={corpus}", f"search.seed={1_000 * (1 + repetition)}", f"search.trials={NEVER}", "confirm.seeds=1")
    loaded = load("balance", (*common, f"resources.max_concurrent={SLOTS}", *overrides))
    return prepare(selected(loaded.experiment, ["concat"]), loaded.places)


def searched(arm: str, corpus: str, repetition: int, seconds: float) -> dict[str, Any]:
    """The configuration that was chosen, by what value, of how many trials, and when."""
    started = time.time()
    if arm == POOL:
        return _pool(prepared(corpus, repetition), started, seconds)
    wanted = prepared(corpus, repetition, ARMS[arm])
    with TemporaryDirectory() as storage:
        deadline = _Deadline(started + seconds, storage)
        with patch("orchestrator.run.search_state.ended_by", deadline.ended_by):
            launch(wanted, storage, listener=deadline)
        store = Store.open(storage)
        rows, (study,) = store.trials().to_pylist(), wanted.plan.studies
        search = [row for row in rows if row["phase"] == "search"]
        chosen, last = chosen_params(store.record, rows)[study.study_id], started + seconds
        if study.top == 1:
            over = datetime.fromtimestamp(last, UTC)
            search = [row for row in search if row["finished_at"] <= over]
            best = best_trial(search, study.direction)
            chosen = best and json.loads(best["params"])
        else:
            last = max(row["finished_at"] for row in rows if row["phase"] != "confirm").timestamp()
        complete = [row["value"] for row in search if row["state"] == "COMPLETE"]
    return {
        "config": None if chosen is None else study.config(chosen),
        "value": min(complete, default=None),
        "trials": len(search),
        "complete": len(complete),
        "wall_s": last - started,
    }


class _Deadline(Silent):
    """Ends the search of a campaign in time for what comes after it."""

    def __init__(self, until: float, storage: str) -> None:
        self._until, self._storage = until, storage
        self._campaign: Campaign | None = None
        self._looked_at, self._reserve_s = 0.0, 0.0

    @contextmanager
    def running(self, campaign: Campaign, terminal: TextIO) -> Iterator[None]:
        self._campaign = campaign
        yield

    def ended_by(self, *search: Any, **so_far: Any) -> str:
        """As `plan.search_end` has it; its time is up for good."""
        if self._campaign is not None and time.time() - self._looked_at > 1.0:
            (state,) = self._campaign.studies
            self._looked_at, self._reserve_s = time.time(), self._reserve(state)
        if self._until and time.time() + self._reserve_s >= self._until:
            self._until = 0.0
            if self._campaign is not None and self._campaign.studies[0].study.top == 1:  # what runs comes too late
                signal.raise_signal(signal.SIGTERM)
        return "" if self._until else "time"

    def _reserve(self, state: StudyState) -> float:
        study = state.study
        if study.top == 1:
            return 0.0
        rows = Store.open(self._storage).trials(["trial_id", "state", "duration_s"]).to_pylist()
        full = [row["duration_s"] for row in rows if row["state"] == "COMPLETE"]
        return study.top * len(study.select_seeds) * fmean(full) / SLOTS if full else 0.0


def _pool(wanted: Prepared, started: float, seconds: float) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    (study,), pruner = wanted.plan.studies, wanted.plan.studies[0].search.pruner
    corpus = wanted.corpora[study.data_fingerprint].without_test()
    halving = optuna.pruners.SuccessiveHalvingPruner(min_resource=pruner.min_epochs, reduction_factor=pruner.reduction)
    sampler = optuna.samplers.TPESampler(seed=study.search.seed)
    direction = optuna.study.StudyDirection[study.direction.name]
    found = optuna.create_study(direction=direction, sampler=sampler, pruner=halving)
    context = multiprocessing.get_context("spawn")
    pipes: dict[Connection, Any] = {}
    trials: dict[Connection, optuna.Trial] = {}
    for _ in range(SLOTS):
        ours, theirs = context.Pipe()
        pipes[ours] = context.Process(target=_serve, args=(theirs, corpus, study), daemon=True)
        pipes[ours].start()
    idle = list(pipes)
    while (left := started + seconds - time.time()) > 0:
        while idle:
            trial = found.ask(dict(study.distributions))
            trials[pipe := idle.pop()] = trial
            pipe.send((study.search.seed + 1 + trial.number, trial.params))
        ready = wait(list(trials), left)
        for pipe in [each for each in trials if each in ready]:
            trial, (epoch, value, done) = trials[pipe], pipe.recv()
            trial.report(value, epoch)
            pruned = not done and trial.should_prune()
            if not done:
                pipe.send(pruned)
            if done or pruned:
                state = optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE
                found.tell(trial, None if pruned else value, state=state)
                del trials[pipe]
                idle.append(pipe)
    for process in pipes.values():
        process.terminate()
    complete = [each for each in found.trials if each.state == optuna.trial.TrialState.COMPLETE]
    best = found.best_trial if complete else None
    return {
        "config": None if best is None else study.config(best.params),
        "value": None if best is None else best.value,
        "trials": sum(each.state.is_finished() for each in found.trials),
        "complete": len(complete),
        "wall_s": seconds,
    }


def _serve(pipe: Connection, corpus: Corpus, study: Study) -> None:
    """A process of the pool: train what it is sent, epoch by epoch, until it is told to stop."""
    from orchestrator.run.study_state import SEARCH, StudyState
    from orchestrator.run.workload import train

    like = StudyState(study, code_fingerprint="", cells={}).next()
    assert like is not None
    while True:
        seed, params = pipe.recv()
        alone = replace(like, phase=SEARCH, seed=seed, config=study.config(params))
        run, best = train(alone, corpus), float("inf")
        while not run.done:
            best = min(best, run.train_epoch()[study.metric])
            pipe.send((len(run.measurements), best, run.done))
            if not run.done and pipe.recv():
                break


if __name__ == "__main__":
    arm, corpus, repetition, seconds = sys.argv[1:]
    print(json.dumps(searched(arm, corpus, int(repetition), float(seconds))))
