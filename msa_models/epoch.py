"""One epoch of a training: the steps that it takes, and the means of what they log.

Everything that is drawn depends on (seed, epoch) alone. An epoch can be cut between any two steps and be continued bit
for bit, in another process too: then the generators are as they were at the cut, whoever has drawn from them since.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from msa_models import seeding
from msa_models.batch import Batch, batches, dropped
from msa_models.config import TrainingConfig
from msa_models.data.corpus import Split
from msa_models.lengths import epoch_order
from msa_models.network import Network
from msa_models.seams import Progress
from msa_models.step import Step


class Epoch:
    """Epoch number `epoch` (from 0) over a split; `history` is the validation objective of those before it.

    Of the history lower is better, and NaN where there was none.
    """

    def __init__(
        self,
        network: Network,
        step: Step,
        train: Split,
        *,
        epoch: int,
        history: Sequence[float],
        seed: int,
        device: str,
    ) -> None:
        self._network, self._step, self._train = network, step, train
        self._epoch, self._seed, self._device = epoch, seed, device
        spec = network.spec
        self._settings = settings = spec.training
        start = spec.schedule.start(history, settings.epochs)
        self._start = math.inf if start is None else start
        self._reductions = settings.plateau.reductions(history) if settings.schedule == "plateau" else 0
        self._rows = rows_of_steps(train, settings, seed, epoch)
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: Counter[str] = Counter()
        self.taken = 0  # steps
        self.generators: Mapping[str, torch.Tensor] = {}  # their states at the cut

    def train(self, pause: Callable[[], bool]) -> bool:
        """Take the steps that are left, but none after one at which `pause` says so; whether all are taken, unpaused.

        Raises NonFiniteLoss.
        """
        if self.generators:
            _set_generators(self.generators, self._device)
        else:
            torch.manual_seed(self.dropout_seed)
        if self._network.text is not None:
            self._network.text.stage(self._epoch)
        self._network.train()
        while self.taken < self.num_steps:
            for progress, batch in self.parts(self.taken):
                log = self._step.take(batch, progress, modulated=self.modulated, of=self.num_samples(self.taken))
                for name, value in log.items():
                    self.sums[name] = self.sums[name] + value if name in self.sums else value
                self.counts.update(log.keys())  # of a mapping it would add up the values
            self.taken += 1
            if pause():
                self.generators = _generators(self._device)
                return False
        return True

    @property
    def num_steps(self) -> int:
        """Of the whole epoch."""
        return len(self._rows)

    @property
    def dropout_seed(self) -> int:
        """What the generator of the network's draws begins from."""
        return seeding.derive(self._seed, "dropout", self._epoch)

    @property
    def modulated(self) -> bool:
        """Whether the modulator works in this epoch."""
        return self._epoch >= self._start

    def num_samples(self, step: int) -> int:
        """Of a step."""
        return len(self._rows[step])

    def parts(self, step: int) -> Iterator[tuple[Progress, Batch]]:
        """The batches of a step, and where each of them is."""
        settings, rows = self._settings, self._rows[step]
        for part, batch in enumerate(batches(self._train, settings.batch_size, rows, self._device)):
            progress = Progress(
                epoch=self._epoch,
                epochs=settings.epochs,
                step=step,
                steps=self.num_steps,
                active=int(max(self._epoch - self._start, 0)),
                seeds=(self._seed,),
                part=part,
                reductions=self._reductions,
            )
            if settings.modality_dropout > 0:
                empty = self._network.empty_text
                batch = dropped(batch, settings.modality_dropout, self._seed, progress.place, empty)
            yield progress, batch

    @property
    def progress(self) -> dict[str, Any]:
        """Of an epoch that is cut what is plain data; `state` has the tensors."""
        return {"taken": self.taken, "counts": dict(self.counts)}

    @property
    def state(self) -> dict[str, Mapping[str, torch.Tensor]]:
        """Of an epoch that is cut what it remembers, in named groups."""
        return {"sums": self.sums, "generators": self.generators}

    def restore(self, progress: Mapping[str, Any], state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Go on from where another one was cut; of `state` only the own groups are read."""
        self.taken, self.counts = progress["taken"], Counter(progress["counts"])
        self.sums = {name: state["sums"][name].to(self._device) for name in self.counts}
        self.generators = state["generators"]

    def means(self, modalities: Sequence[str]) -> dict[str, float]:
        """What was logged, over the batches that have it; `<name>/<modality>` where it is one number for each."""
        flat: dict[str, float] = {}
        for name, total in self.sums.items():
            mean = total / self.counts[name]
            names = [f"{name}/{modality}" for modality in modalities] if mean.dim() else [name]
            flat |= zip(names, mean.reshape(-1).tolist(), strict=True)
        if (steps := steps_of_pass(self._train, self._settings)) != self.num_steps:
            flat["train/passes"] = (self._epoch + 1) * len(self._rows) / steps
        return flat


def steps_of_pass(train: Split, settings: TrainingConfig) -> int:
    """How many steps come to every sample once."""
    return math.ceil(len(train) / (settings.batch_size * settings.accumulate))


def rows_of_steps(train: Split, settings: TrainingConfig, seed: int, epoch: int) -> list[np.ndarray]:
    """The samples of each step of an epoch, as many in each, but fewer in the last of a pass.

    An epoch of other lengths than a pass begins where the one before it has ended.
    """
    size, of_pass = settings.batch_size * settings.accumulate, steps_of_pass(train, settings)
    steps = settings.steps(of_pass)
    begun, taken = divmod(epoch * steps, of_pass)
    rows: list[np.ndarray] = []
    for number in range(begun, begun + math.ceil((taken + steps) / of_pass)):
        order = epoch_order(train, settings, seed, number)
        rows += [order[first : first + size] for first in range(0, len(order), size)]
    return rows[taken : taken + steps]


def _generators(device: str) -> dict[str, torch.Tensor]:
    """The states of torch's generators that training on a device draws from."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if torch.device(device).type == "cuda" else {})


def _set_generators(states: Mapping[str, torch.Tensor], device: str) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
