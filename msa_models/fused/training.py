"""Trainings of one spec that differ in their seeds, trained an epoch at a time in one pass of batched products.

Each of them stays a `Training` of its own: it is copied into a stack when a stretch of an epoch begins, and back when
it ends. So it may be cut at any step, measured, snapshot and restored as if it had been alone, and who is in a pass may
change between stretches. Every draw is as it is alone: the same batches, the same dropout, the same noise.

In a pass a training is equal to itself alone up to rounding, not bit for bit; passes of the same trainings from the
same state are the same bit for bit. Training arrays fused horizontally do the same (Wang et al. 2021, MLSys).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import torch

from msa_models import snapshot
from msa_models.batch import Batch
from msa_models.config import MODELS
from msa_models.encoders import is_of_sequences
from msa_models.epoch import Epoch
from msa_models.fused.network import StackedBatch, stackable
from msa_models.fused.step import Failed, FusedStep
from msa_models.seams import Progress
from msa_models.training import Measurement, Training
from msa_models.varied import likeness

Advanced = Measurement | Exception | None  # of an epoch that is over, or failed, or is cut


def fit_together(trainings: Sequence[Training]) -> bool:
    """Whether they can be trained in one pass: alike in all but their seeds, at the same step, and of stackable parts.

    Models whose texts are fine-tuned cannot, nor can encoders of sequences on a GPU.
    """
    first = trainings[0].network
    if len(trainings) < 2 or not stackable(first):
        return False
    if trainings[0].device != "cpu" and any(map(is_of_sequences, first.encoders.values())):
        return False
    return len({_place(each) for each in trainings}) == 1


def advance(trainings: Sequence[Training], pause: Callable[[], bool]) -> list[Advanced]:
    """Train those that `fit_together` to the end of the epoch, see `Training.advance`, or until `pause` cuts them all.

    One that fails is left where it was when this was called; the others go on from there without it. Where a pass
    fails as a whole, each of them is trained alone: perhaps there is room for one. Measurements have `train/models`,
    how many were in the pass.
    """
    assert fit_together(trainings), "trainings that do not fit together"
    found: list[Advanced] = [None] * len(trainings)
    left = list(range(len(trainings)))
    while len(left) > 1:
        try:
            over = _Pass([trainings[number] for number in left]).train(pause)
        except Failed as failed:
            for model, fault in failed.faults.items():
                found[left[model]] = fault
            left = [number for number in left if found[number] is None]
            continue
        except Exception:
            break
        for number in left if over else ():
            found[number] = _caught(partial(trainings[number].conclude, {MODELS: len(left)}))
        return found
    for number in left:
        found[number] = _caught(partial(trainings[number].advance, pause))
    return found


def _caught(call: Callable[[], Measurement | None]) -> Advanced:
    try:
        return call()
    except Exception as fault:
        return fault


class FusableTraining(Training):
    """A training that can share its passes."""

    def advance_with(self, others: Sequence[Training], pause: Callable[[], bool]) -> list[Advanced] | None:
        """As `Training.advance`, of all of them in one pass; None where they do not fit together."""
        trainings = [self, *others]
        return advance(trainings, pause) if fit_together(trainings) else None


class _Pass:
    """A stretch of an epoch of several trainings, which know of it once it is over."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self._trainings, self._epochs = trainings, [each.begin() for each in trainings]
        self._generators = [
            _generator(epoch, training.device) for epoch, training in zip(self._epochs, trainings, strict=True)
        ]
        self._step = FusedStep(trainings, self._generators)
        self._sums: dict[str, torch.Tensor] = {}
        self._counts = [Counter(each.counts) for each in self._epochs]
        for name in dict.fromkeys(name for each in self._epochs for name in each.sums):
            known = next(each.sums[name] for each in self._epochs if name in each.sums)
            self._sums[name] = torch.stack([each.sums.get(name, torch.zeros_like(known)) for each in self._epochs])

    def train(self, pause: Callable[[], bool]) -> bool:
        """As `Epoch.train`. Raises Failed, and then leaves the trainings as they were."""
        first, paused = self._epochs[0], False
        taken = first.taken
        self._step.network.train()
        while taken < first.num_steps and not paused:
            for parts in zip(*(each.parts(taken) for each in self._epochs), strict=True):
                self._take([progress for progress, _ in parts], [batch for _, batch in parts], first.num_samples(taken))
            taken += 1
            paused = pause()
        self._step.give_back(self._trainings)
        for model, epoch in enumerate(self._epochs):
            epoch.taken, epoch.counts = taken, self._counts[model]
            epoch.sums = {name: total[model].clone() for name, total in self._sums.items() if epoch.counts[name]}
            epoch.generators = _states(self._generators[model]) if paused else {}
        return not paused

    def _take(self, progress: Sequence[Progress], batches: Sequence[Batch], of: int) -> None:
        modulated = [each.modulated for each in self._epochs]
        log = self._step.take_all(StackedBatch.of(batches), progress, modulated, of)
        for name, value in log.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        for model, counts in enumerate(self._counts):
            counts.update(name for name in log if model not in self._step.silent.get(name, ()))


def _generator(epoch: Epoch, device: str) -> torch.Generator:
    """What a model draws its dropout from, in the state that it has alone at this step."""
    kind = torch.device(device).type
    generator = torch.Generator(device=device)
    if kind in epoch.generators:
        return generator.set_state(epoch.generators[kind])
    return generator.manual_seed(epoch.dropout_seed)


def _states(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """As an epoch that is cut remembers it; on a GPU nothing is drawn on the CPU."""
    return {"cpu": torch.get_rng_state(), generator.device.type: generator.get_state()}


def _place(training: Training) -> tuple[object, ...]:
    """What trainings have in common that can share a pass: all but seeds and such numbers, and where they are."""
    identity = {what: value for what, value in training.identity().items() if what not in ("seed", "spec")}
    remembered = snapshot.optimizer_state(training.step.optimizer)
    steps = tuple(float(value) for name, value in remembered.items() if name.endswith(".step"))
    taken = 0 if training.begun is None else training.begun.taken
    return (
        *identity.items(),
        repr(likeness(training.spec)),
        training.device,
        training.epoch,
        taken,
        tuple(remembered),
        steps,
    )
