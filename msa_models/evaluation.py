"""Evaluation: what a network predicts of a split, as it is or disturbed, and how far off it is.

Cross-modal robustness is how far off it is on the test split where modalities are missing, in part or whole, or noisy.
There are four kinds of conditions, in the words of the field:

clean             nothing is disturbed
missing_modality  modalities are missing from every sample, as of the testing conditions of MMIN (Zhao et al. 2021, ACL)
missing_rate      of sequences this share of the real steps is missing, of utterance vectors, and of texts that are
                  fine-tuned, this share of the samples; TFR-Net (Yuan et al. 2021, ACM MM) and EMT-DLFR (Sun et al.
                  2022, arXiv:2208.07589) take the rates 0.0, 0.1, ..., 1.0
noise             Gaussian noise of this standard deviation is added to the standardised features of every real step

`msa_models.batch` says what "missing" means for a network. What is drawn depends on (seed, kind, modality, sample id)
and on nothing else: neither on the batch nor on the model, and not on the level, so that what is missing at a rate is
missing at every higher one too, and noise grows in its own direction. Each modality is disturbed alone and all at once.

N samples, B batch, T time steps, d features, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch

from msa_models import metrics, seeding
from msa_models.batch import Batch, gathered, without
from msa_models.data.corpus import Corpus, Split, in_usual_order
from msa_models.lengths import within
from msa_models.network import Network
from msa_models.printable import one_line
from msa_models.step import NonFiniteLoss

BATCH, FINETUNED_BATCH = 512, 64  # of the larger models the activations are the memory
SPLIT = "test"  # that is disturbed
Row = dict[str, Any]
Kind = Literal["clean", "missing_modality", "missing_rate", "noise"]


def evaluate(network: Network, corpus: Corpus, name: str, epoch: int) -> tuple[dict[str, float], np.ndarray]:
    """`<split>/<metric>` of the split of this name after `epoch` epochs, and the predictions, (N,) or (N, K) scores.

    Raises NonFiniteLoss where a prediction is NaN or infinite. The network is left in evaluation mode.
    """
    predictions = predict(network, corpus.splits[name])
    if not np.isfinite(predictions).all():
        raise NonFiniteLoss(f"the predictions of the {name} split at epoch {epoch} are not finite")
    return scores(corpus, name, predictions), predictions


@torch.no_grad()
def predict(network: Network, split: Split) -> np.ndarray:
    """The predictions of a split, (N,) or (N, K) scores, finite or not. The network is left in evaluation mode."""
    network.eval()
    parts = _parts(network, split)
    found = [network.predict(batch) for batch in gathered(split, parts, _device(network))]
    return _in_order(torch.cat(found).float().cpu(), parts)


def scores(corpus: Corpus, name: str, predictions: np.ndarray) -> dict[str, float]:
    """`<split>/<metric>` of finite predictions of the split of this name."""
    targets = corpus.splits[name].targets
    values = metrics.measure(corpus.task, predictions, targets, scale=corpus.scale, classes=corpus.classes)
    return {f"{name}/{metric}": value for metric, value in values.items()}


def not_finite(corpus: Corpus, name: str, predictions: np.ndarray) -> str:
    """One line on the predictions of a split that are NaN or infinite: how many, a sample, and what is odd about it."""
    bad = np.flatnonzero(~np.isfinite(predictions).reshape(len(predictions), -1).all(axis=1))
    sample = int(bad[0])
    line = f"{len(bad)} of {len(predictions)} predictions of the {name} split are not finite"
    return one_line(f"{line}, such as that of '{corpus.splits[name].ids[sample]}'; {_odd(corpus, name, sample)}")


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Which conditions to evaluate, see `search_spaces.parts.Robustness`; `modalities` None: all that there are."""

    missing_modalities: Literal["none", "each", "all_sets"] = "all_sets"
    missing_rates: Sequence[float] = ()
    noise: Sequence[float] = ()
    modalities: Sequence[str] | None = None
    seed: int = 0

    def conditions(self, modalities: Sequence[str]) -> list[Condition]:
        """Those of a network that reads these modalities, the clean one first; one modality at least is never missing.

        Sets of missing modalities by size, levels in ascending order.
        """
        disturbed = [name for name in modalities if self.modalities is None or name in self.modalities]
        largest = {"none": 0, "each": 1, "all_sets": len(disturbed)}[self.missing_modalities]
        sizes = range(1, min(largest, len(modalities) - 1) + 1)
        found = [Condition(kind="clean", modalities=(), level=0.0)]
        found += [
            Condition(kind="missing_modality", modalities=each, level=1.0)
            for size in sizes
            for each in combinations(disturbed, size)
        ]
        alone_and_all = [(name,) for name in disturbed] + ([tuple(disturbed)] if len(disturbed) > 1 else [])
        levels: tuple[tuple[Kind, Sequence[float]], ...] = (
            ("missing_rate", self.missing_rates),
            ("noise", self.noise),
        )
        for kind, values in levels:
            found += [
                Condition(kind=kind, modalities=each, level=level) for each in alone_and_all for level in sorted(values)
            ]
        return found


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How the test split is disturbed: which modalities, and how much (share of steps or samples, or deviation)."""

    kind: Kind
    modalities: tuple[str, ...]
    level: float


@torch.no_grad()
def evaluate_disturbed(
    network: Network, corpus: Corpus, asked: Robustness, told: Callable[[int], None] = lambda number: None
) -> list[Row]:
    """One row for each condition: kind, modalities ("text+audio"), level, split, then every metric of the task.

    `told` hears of the samples of each batch. Where a prediction is not finite all metrics of the condition are NaN:
    nothing of the test split makes a trial fail. The network is left in evaluation mode.
    """
    network.eval()
    split = corpus.splits[SPLIT]
    parts = _parts(network, split)
    conditions = asked.conditions(corpus.modalities)
    predictions: list[list[torch.Tensor]] = [[] for _ in conditions]
    for rows, batch in zip(parts, gathered(split, parts, _device(network)), strict=True):
        disturb = _Disturbance(network, asked.seed, split.ids[rows].tolist(), batch)
        for condition, found in zip(conditions, predictions, strict=True):
            found.append(network.predict(disturb(condition)).float().cpu())
        told(len(batch))
    return [
        _row(condition, corpus, _in_order(torch.cat(found), parts))
        for condition, found in zip(conditions, predictions, strict=True)
    ]


def _parts(network: Network, split: Split) -> list[np.ndarray]:
    """The samples of each batch: however many there are, what is held at once is bounded."""
    size = BATCH if network.text is None else FINETUNED_BATCH
    return within(split, size, network.spec.training.max_tokens)


def _device(network: Network) -> str:
    return str(next(network.parameters()).device)


def _in_order(found: torch.Tensor, parts: Sequence[np.ndarray]) -> np.ndarray:
    """What was found of the samples of one batch after the other, in the order of the split."""
    return found.numpy()[np.argsort(np.concatenate(parts), kind="stable")]


def _odd(corpus: Corpus, name: str, sample: int) -> str:
    """The feature of a sample that is not finite, or else that lies furthest beyond the training split."""
    furthest, words = 1.0, "no feature of it is beyond those of train"
    for modality in corpus.modalities:
        values, train = (corpus.splits[each].inputs[modality] for each in (name, "train"))
        if values.dtype.kind != "f":  # token ids
            continue
        reached = np.abs(train).reshape(-1, train.shape[-1]).max(axis=0)
        steps = np.abs(values[sample].astype(np.float64)).reshape(-1, len(reached))
        beyond = np.where(np.isfinite(steps), steps / np.maximum(reached, 1.0), np.inf)  # 1: a standard deviation
        step, column = np.unravel_index(int(beyond.argmax()), beyond.shape)
        if beyond[step, column] > furthest:
            furthest = beyond[step, column]
            value = values[sample].reshape(-1, len(reached))[step, column]
            words = f"its {modality} column {column} is {value:g}, train reaches {reached[column]:g} (standardised)"
    return words


class _Disturbance:
    """A batch under any condition; what is drawn is drawn once and serves all levels."""

    def __init__(self, network: Network, seed: int, ids: Sequence[str], batch: Batch) -> None:
        self._batch, self._seed, self._ids = batch, seed, ids
        self._empty_text = network.empty_text
        self._uniform: dict[str, torch.Tensor] = {}
        self._normal: dict[str, torch.Tensor] = {}

    def __call__(self, condition: Condition) -> Batch:
        batch = self._batch
        if condition.kind == "clean":
            return batch
        if condition.kind == "noise":
            noisy = {name: self._noisy(name, condition.level) for name in condition.modalities}
            return Batch(inputs=batch.inputs | noisy, masks=batch.masks, targets=batch.targets)
        # Uniform draws lie in [0, 1), so that at a rate of 1 nothing is left.
        gone = {name: self._drawn_uniform(name) < condition.level for name in condition.modalities}
        if condition.kind == "missing_modality":
            gone = {name: torch.ones(len(batch), dtype=torch.bool, device=each.device) for name, each in gone.items()}
        return without(batch, gone, self._empty_text)

    def _noisy(self, modality: str, level: float) -> torch.Tensor:
        values = self._batch.inputs[modality]
        if modality not in self._normal:
            normal = self._each("noise", modality, lambda draw: draw.standard_normal(values.shape[1:], np.float32))
            mask = self._batch.masks.get(modality)
            self._normal[modality] = normal if mask is None else normal.masked_fill(~mask.unsqueeze(-1), 0.0)
        return values + level * self._normal[modality]

    def _drawn_uniform(self, modality: str) -> torch.Tensor:
        """(B, T) of sequences of features, (B,) of anything else."""
        if modality not in self._uniform:
            values = self._batch.inputs[modality]
            shape = values.shape[1:2] if values.dim() == 3 else ()
            self._uniform[modality] = self._each("missing", modality, lambda draw: np.asarray(draw.random(shape)))
        return self._uniform[modality]

    def _each(self, what: str, modality: str, draw: Callable[[np.random.Generator], np.ndarray]) -> torch.Tensor:
        """What is drawn for each sample, one below the other."""
        drawn = [draw(seeding.generator(self._seed, what, modality, each)) for each in self._ids]
        return torch.from_numpy(np.stack(drawn)).to(self._batch.targets.device)


def _row(condition: Condition, corpus: Corpus, predictions: np.ndarray) -> Row:
    names = metrics.names(corpus.task, corpus.scale, corpus.classes)
    values = dict.fromkeys(names, float("nan"))
    if np.isfinite(predictions).all():
        targets = corpus.splits[SPLIT].targets
        values = metrics.measure(corpus.task, predictions, targets, scale=corpus.scale, classes=corpus.classes)
    modalities = "+".join(in_usual_order(condition.modalities))
    return {"kind": condition.kind, "modalities": modalities, "level": condition.level, "split": SPLIT, **values}
