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

from msa_models.batch import batches
from msa_models.data import Corpus
from msa_models.epoch import steps_of_pass
from msa_models.fused import FusableTraining
from msa_models.training import Objective, Training
from msa_models.without_compiler import without_compiler
from orchestrator.plan.configure import configure, known_method
from orchestrator.plan.search import members
from orchestrator.run.messages import Assignment
from orchestrator.run.pruning import rungs_of
from orchestrator.run.retries import settings as changed_settings
from orchestrator.run.time_limit import Clock
from search_spaces.dotted import placed

if TYPE_CHECKING:  # a worker needs no Optuna
    from orchestrator.plan.studies import Study

NUM_CONFIGURATIONS = 3  # of the full method, drawn as its search would draw them
MEASURED_S = 20.0  # that they are trained for, whatever an epoch takes; by then a step has come to its end
_SAMPLES = 16  # evaluated at a time while that is measured

without_compiler()  # before the first optimiser


def train(assignment: Assignment, corpus: Corpus) -> Training:
    """A `Training` of the assignment, on CUDA where the worker has been given a GPU.

    Its threads are those of the assignment, whatever OMP_NUM_THREADS says, which Ray sets in a worker.
    """
    torch.set_num_threads(assignment.threads)
    method = known_method(assignment.method)
    return FusableTraining(
        method.build(configure(method.Config, placed(assignment.config, changed_settings(assignment.changes)))),
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
    of_parts: bool  # whether epochs were too long to be trained, so that this is reckoned from some of their steps


def estimate_time(
    studies: Sequence[Study], corpora: Mapping[str, Corpus], clock: Clock = time.perf_counter
) -> Estimate:
    """From one epoch of a few configurations of the first study on each dataset, as if all cells cost the same.

    Or from the steps of it that fit into `MEASURED_S`.
    """
    first: dict[str, Study] = {}
    for study in studies:
        first.setdefault(study.dataset, study)
    most_s = MEASURED_S / len(first) / NUM_CONFIGURATIONS
    found = {name: _epochs_of(study, corpora[study.data_fingerprint], most_s, clock) for name, study in first.items()}
    epoch_s = {name: sum(each for each, _ in measured) / len(measured) for name, measured in found.items()}
    seconds = most = 0.0
    for study in studies:
        search, confirm = epoch_s[study.dataset] * _expected_epochs(study), epoch_s[study.dataset] * _epochs(study)
        least, num_selects = study.least, study.num_selects
        budget = math.inf if study.search.budget is None else 3600 * study.search.budget
        seconds += min(search * least["search"], budget) + confirm * (least["confirm"] + least.get("select", 0))
        most += min(search * study.search.trials, budget) + confirm * (len(study.confirm_seeds) + num_selects)
    return Estimate(
        slot_hours=seconds / 3600,
        epoch_s=epoch_s,
        most_slot_hours=most / 3600,
        of_parts=any(is_part for measured in found.values() for _, is_part in measured),
    )


def _epochs_of(study: Study, corpus: Corpus, most_s: float, clock: Clock) -> list[tuple[float, bool]]:
    """What `_epoch_s` says of a few configurations."""
    from orchestrator.run.study_state import StudyState

    state = StudyState(study, code_fingerprint="", cells={})
    measured = []
    for _ in range(NUM_CONFIGURATIONS):
        assignment = state.next()
        if assignment is None:  # fewer trials than that
            break
        measured.append(_epoch_s(train(assignment, corpus), most_s, clock))
    return measured


def _epoch_s(run: Training, most_s: float, clock: Clock) -> tuple[float, bool]:
    """Seconds of an epoch with its evaluation, and whether it takes longer, so that these are reckoned from a part."""
    num_steps, num_evaluated, started = 0, 0, clock()

    def late() -> bool:
        nonlocal num_steps
        num_steps += 1
        return clock() - started > most_s

    if run.advance(late) is not None:
        return clock() - started, False
    settings, splits = run.spec.training, run.corpus.splits
    training_s = settings.steps(steps_of_pass(splits["train"], settings)) * (clock() - started) / num_steps
    run.network.eval()
    started = clock()
    with torch.no_grad():
        for batch in batches(splits["valid"], _SAMPLES, device=run.device):
            run.network.predict(batch)
            num_evaluated += len(batch)
            if clock() - started > most_s / 4:
                break
    return training_s + len(splits["valid"]) * (clock() - started) / num_evaluated, True


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
