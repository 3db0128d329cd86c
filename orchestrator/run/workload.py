"""The workload of a real trial: the method of its assignment, trained by PyTorch; and how long many of them take.

Imports torch. Workers import this module, by the name in the driver's `TRAIN`, and so does who asks for the time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from msa_models.data import Corpus
from msa_models.training import Objective, Training
from orchestrator.plan.configure import configure, known_method
from orchestrator.plan.search import members
from orchestrator.run.messages import Assignment
from orchestrator.run.pruning import rungs_of
from orchestrator.run.retries import settings
from search_spaces.dotted import placed

if TYPE_CHECKING:  # a worker needs no Optuna
    from orchestrator.plan.studies import Study

NUM_CONFIGURATIONS = 3  # of the full method, drawn as its search would draw them

# The first optimiser of a process imports another second and a half of torch: before the first trial, not inside it.
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])


def train(assignment: Assignment, corpus: Corpus) -> Training:
    """A `Training` of the assignment, on CUDA where the worker has been given a GPU.

    Its threads are those of the assignment, whatever OMP_NUM_THREADS says, which Ray sets in a worker.
    """
    torch.set_num_threads(assignment.threads)
    method = known_method(assignment.method)
    return Training(
        method.build(configure(method.Config, placed(assignment.config, settings(assignment.changes)))),
        corpus.select(assignment.modalities),
        seed=assignment.seed,
        objective=Objective(metric=assignment.metric, direction=assignment.direction),
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Slot-hours of all trials, from seconds per epoch (with its evaluation) by dataset; start-up is not in it."""

    slot_hours: float
    epoch_s: Mapping[str, float]
    most_slot_hours: float  # where a race gives every cell all its units


def estimate_time(studies: Sequence[Study], corpora: Mapping[str, Corpus]) -> Estimate:
    """From one epoch of a few configurations of the first study on each dataset, as if all cells cost the same."""
    first: dict[str, Study] = {}
    for study in studies:
        first.setdefault(study.dataset, study)
    epoch_s = {name: _seconds_per_epoch(study, corpora[study.data_fingerprint]) for name, study in first.items()}
    seconds = most = 0.0
    for study in studies:
        search, confirm = epoch_s[study.dataset] * _expected_epochs(study), epoch_s[study.dataset] * _epochs(study)
        least, num_selects = study.least, study.num_selects
        budget = math.inf if study.search.budget is None else 3600 * study.search.budget
        seconds += min(search * least["search"], budget) + confirm * (least["confirm"] + least.get("select", 0))
        most += min(search * study.search.trials, budget) + confirm * (len(study.confirm_seeds) + num_selects)
    return Estimate(slot_hours=seconds / 3600, epoch_s=epoch_s, most_slot_hours=most / 3600)


def _seconds_per_epoch(study: Study, corpus: Corpus) -> float:
    from orchestrator.run.study_state import StudyState

    state = StudyState(study, code_fingerprint="", cells={})
    seconds = []
    for _ in range(NUM_CONFIGURATIONS):
        assignment = state.next()
        if assignment is None:  # fewer trials than that
            break
        run = train(assignment, corpus)
        started = time.perf_counter()
        run.train_epoch()
        seconds.append(time.perf_counter() - started)
    return sum(seconds) / len(seconds)


def _epochs(study: Study) -> int:
    return study.fixed["training"]["epochs"]


def _expected_epochs(study: Study) -> float:
    """Of all trainings of a search trial together, when one in `reduction` goes on at each rung."""
    pruner, epochs = study.search.pruner, _epochs(study)
    several = members(study.search, 0, epochs)
    trained, turns = (1, 1) if several is None else (1, len(several)) if several.in_turn else (len(several), 1)
    ends = [*rungs_of(pruner, epochs, several), epochs * turns]
    return trained * sum(
        (end - before) / pruner.reduction**rung
        for rung, (before, end) in enumerate(zip([0, *ends], ends, strict=False))
    )
