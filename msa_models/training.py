"""Training: a stream of measurements, one per epoch, that can be cut at any epoch and continued bit for bit.

Each step differentiates the losses with respect to the representations H_m, lets the modulator change these gradients, and
runs ONE backward pass through the encoders, however many losses and modulators there are.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch

from msa_models import metrics, seeding
from msa_models.batch import Batch, batches
from msa_models.blueprint import Blueprint
from msa_models.data.corpus import Corpus, Split
from msa_models.network import Network, cut, shapes
from msa_models.seams import Forward, Modulation

EVALUATION_BATCH = 512
Measurement = dict[str, float]


class NonFiniteLoss(ArithmeticError):
    """A loss or a prediction is NaN or infinite; the message names epoch, step and term."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric of the validation split and the direction in which it improves."""

    metric: str = "valid/mae"
    direction: str = "minimize"

    def improves(self, value: float, on: float | None) -> bool:
        """Whether `value` is better than the best so far (None: nothing yet)."""
        return on is None or (value < on if self.direction == "minimize" else value > on)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome at the best validation epoch; `predictions` are of the test split, (N,) or (N, K) scores."""

    best_epoch: int
    value: float
    metrics: dict[str, float]
    predictions: np.ndarray


class Training:
    """One trial being trained on a standardised corpus.

    Iterating yields the measurement of each epoch; `snapshot` and `restore` move the state between processes; `result`
    reads the test split, once, at the best epoch by the objective.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        corpus: Corpus,
        *,
        seed: int,
        objective: Objective | None = None,
        device: str = "cpu",
    ) -> None:
        self.blueprint, self.corpus, self.seed, self.device = blueprint, corpus, seed, device
        self.objective = objective or Objective()
        self.network = Network(blueprint, shapes(corpus, blueprint.encoder.width), seed).to(device)
        self.optimizer = _optimizer(self.network, blueprint)
        self.measurements: list[Measurement] = []
        self.best_epoch, self.best_value = 0, None
        self._best: dict[str, torch.Tensor] = {}

    @property
    def epoch(self) -> int:
        """Number of epochs trained so far."""
        return len(self.measurements)

    @property
    def done(self) -> bool:
        """Whether all epochs are trained, or the objective has not improved for `patience` epochs."""
        settings = self.blueprint.training
        exhausted = settings.patience is not None and self.epoch - self.best_epoch >= settings.patience
        return self.epoch >= settings.epochs or exhausted

    def __iter__(self) -> Iterator[Measurement]:
        while not self.done:
            yield self.train_epoch()

    def train_epoch(self) -> Measurement:
        """Train one epoch and measure it. Raises NonFiniteLoss."""
        epoch, settings = self.epoch, self.blueprint.training
        train = self.corpus.splits["train"]
        order = seeding.generator(self.seed, "order", epoch).permutation(len(train))
        torch.manual_seed(seeding.derive(self.seed, "dropout", epoch))
        self._set_learning_rate(epoch)
        self.network.train()
        sums: dict[str, torch.Tensor] = {}
        num_steps = 0
        for step, batch in enumerate(batches(train, settings.batch_size, order, self.device)):
            for name, value in self._step(batch, epoch, step).items():
                sums[name] = sums[name] + value if name in sums else value
            num_steps += 1
        means = {name: (value / num_steps).tolist() for name, value in sums.items()}
        measurement = {"epoch": epoch + 1, **_flat(means, self.corpus.modalities), **self._evaluate("valid")[0]}
        self.measurements.append(measurement)
        self._remember_best(measurement[self.objective.metric])
        return measurement

    def result(self) -> Result:
        """Metrics of all splits' best epoch: valid as measured, test read here for the only time."""
        assert self.best_value is not None, "nothing trained yet"
        last = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self._best)
        test, predictions = self._evaluate("test")
        self.network.load_state_dict(last)
        best = self.measurements[self.best_epoch - 1]
        valid = {name: value for name, value in best.items() if name.startswith("valid/")}
        return Result(best_epoch=self.best_epoch, value=self.best_value, metrics=valid | test, predictions=predictions)

    def snapshot(self) -> bytes:
        """Everything needed to continue, as one safetensors file; draws need no generator state."""
        progress = {"measurements": self.measurements, "best_epoch": self.best_epoch, "best_value": self.best_value}
        tensors = {"progress": torch.frombuffer(bytearray(json.dumps(progress).encode()), dtype=torch.uint8)}
        tensors |= {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
        return safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})

    def restore(self, data: bytes) -> None:
        """Continue from a snapshot of the same blueprint, corpus and seed. Raises ValueError for anything else."""
        try:
            groups = _grouped(safetensors.torch.load(data))
            progress = json.loads(bytes(groups["progress"][""].numpy()))
            self.network.load_state_dict(groups["network"])
            state: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
            for name, tensor in groups.get("optimizer", {}).items():
                index, _, key = name.partition(".")
                state[int(index)][key] = tensor
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": dict(state)})
        except (safetensors.SafetensorError, KeyError, RuntimeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a checkpoint of this trial: {error}") from error
        self._best = {name: tensor.to(self.device) for name, tensor in groups.get("best", {}).items()}
        self.measurements = progress["measurements"]
        self.best_epoch, self.best_value = progress["best_epoch"], progress["best_value"]

    def _step(self, batch: Batch, epoch: int, step: int) -> dict[str, torch.Tensor]:
        """One optimiser step; returns what is averaged over the epoch."""
        self.optimizer.zero_grad()
        hidden = self.network.encode(batch)
        leaves = cut(hidden)
        forward = self.network.decide(batch, leaves)
        losses = self.network.losses(forward)
        objective = torch.stack(list(losses.values())).sum().detach()
        if not math.isfinite(objective.item()):
            raise NonFiniteLoss(_blame(losses, epoch, step))
        modulation = self._balance(losses, leaves, forward, epoch)
        modalities = list(hidden)
        torch.autograd.backward(
            [hidden[modality].hidden for modality in modalities],
            [modulation.gradients[modality] for modality in modalities],
        )
        if self.blueprint.training.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.blueprint.training.gradient_clip)
        self._update(modulation)
        log = {"train/objective": objective} | {f"train/{name}": loss.detach() for name, loss in losses.items()}
        return log | {f"{self.blueprint.modulator.name}/{name}": value for name, value in modulation.log.items()}

    def _balance(self, losses: dict[str, torch.Tensor], leaves, forward: Forward, epoch: int) -> Modulation:
        """Gradients at the boundary, per loss group and modality, as the modulator wants them."""
        groups: dict[str, torch.Tensor] = {}
        for name, loss in losses.items():
            group = "task" if name == "task" else self.blueprint.terms[name].group
            groups[group] = groups[group] + loss if group in groups else loss
        gradients: dict[str, dict[str, torch.Tensor]] = {}
        for index, (group, loss) in enumerate(groups.items()):
            loss.backward(
                retain_graph=index + 1 < len(groups)
            )  # also collects the gradients of everything above the cut
            gradients[group] = {modality: _taken(leaf.hidden) for modality, leaf in leaves.items()}
        modulator = self.blueprint.modulator
        progress = epoch / self.blueprint.training.epochs
        with torch.no_grad():
            return modulator.balance(self.network.parts[modulator.name], gradients, forward, progress)

    def _update(self, modulation: Modulation) -> None:
        if modulation.step_scale is None:
            self.optimizer.step()
            return
        encoder_groups = self.optimizer.param_groups[1:]
        rates = [group["lr"] for group in encoder_groups]
        for group, rate, scale in zip(encoder_groups, rates, modulation.step_scale.tolist(), strict=True):
            group["lr"] = rate * scale
        self.optimizer.step()
        for group, rate in zip(encoder_groups, rates, strict=True):
            group["lr"] = rate

    def _set_learning_rate(self, epoch: int) -> None:
        settings = self.blueprint.training
        decay = 1.0 if settings.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * decay

    @torch.no_grad()
    def _evaluate(self, name: str) -> tuple[dict[str, float], np.ndarray]:
        self.network.eval()
        split: Split = self.corpus.splits[name]
        parts = [self.network.predict(batch) for batch in batches(split, EVALUATION_BATCH, device=self.device)]
        predictions = torch.cat(parts).float().cpu().numpy()
        if not np.isfinite(predictions).all():
            raise NonFiniteLoss(f"epoch {self.epoch + 1}: the predictions of the {name} split are not finite")
        if self.corpus.task == "regression":
            values = metrics.regression(predictions, split.targets, self.corpus.scale)
        else:
            values = metrics.classification(predictions, split.targets, self.corpus.classes)
        return {f"{name}/{metric}": value for metric, value in values.items()}, predictions

    def _remember_best(self, value: float) -> None:
        if self.objective.improves(value, self.best_value):
            self.best_epoch, self.best_value = self.epoch, value
            self._best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}


def _optimizer(network: Network, blueprint: Blueprint) -> torch.optim.Optimizer:
    """AdamW with one group for everything above the boundary, then one for each encoder, in the order of the modalities."""
    above = [parameter for name, parameter in network.named_parameters() if not name.startswith("encoders.")]
    groups = [above, *(list(encoder.parameters()) for encoder in network.encoders.values())]
    settings = blueprint.training
    return torch.optim.AdamW(
        [{"params": group} for group in groups],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def _taken(leaf: torch.Tensor) -> torch.Tensor:
    """The gradient a leaf has collected, which it then forgets; zeros where a loss does not depend on it."""
    gradient, leaf.grad = leaf.grad, None
    return torch.zeros_like(leaf) if gradient is None else gradient


def _blame(losses: dict[str, torch.Tensor], epoch: int, step: int) -> str:
    guilty = {name: loss.item() for name, loss in losses.items() if not math.isfinite(loss.item())}
    terms = ", ".join(f"'{name}' is {value}" for name, value in guilty.items()) or "the sum of all terms overflows"
    return f"non-finite loss at epoch {epoch + 1}, step {step + 1}: {terms}; try a smaller learning rate or weight"


def _flat(means: dict[str, float | list[float]], modalities: tuple[str, ...]) -> Measurement:
    flat: Measurement = {}
    for name, value in means.items():
        if isinstance(value, list):
            flat |= {f"{name}/{modality}": part for modality, part in zip(modalities, value, strict=True)}
        else:
            flat[name] = value
    return flat


def _grouped(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    groups: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        group, _, key = name.partition(".")
        groups[group][key] = tensor
    return groups
