"""A batch of utterances, cut from a split of the corpus, whole or without what is missing.

What is missing of a modality, or steps of it, is the mean of the training split: standardised features are 0 there, and
steps of a sequence are no real ones, as padding is [ours]. A sequence of which nothing is left keeps its first step, as
0: attention over no step at all has no value. Of a text that is fine-tuned the empty text takes the place.

B batch, T time steps, d_m feature width of modality m, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from msa_models import seeding
from msa_models.data.corpus import Split
from msa_models.lazy import torch
from msa_models.lengths import lengths, trimmed

STD_EPSILON = 1e-8  # below the square root, so that the gradient of a zero deviation stays finite


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Standardised inputs (B, T, d_m) or (B, d_m), masks (B, T) for sequences (True: a real step), and targets (B,) or
    (B, K).

    `unimodal` are the targets of single modalities, where the corpus has them. Of texts that are fine-tuned the input
    is token ids (B, T) with a mask, until `with_features` replaces them.
    """

    inputs: dict[str, torch.Tensor]
    masks: dict[str, torch.Tensor]
    targets: torch.Tensor
    unimodal: dict[str, torch.Tensor] = field(default_factory=dict)
    _moments: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.targets)

    def moments(self, modality: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation over the real steps, each (B, d_m); of an utterance vector, itself and 0."""
        if modality not in self._moments:
            self._moments[modality] = _masked_moments(self.inputs[modality], self.masks.get(modality))
        return self._moments[modality]

    def with_features(self, modality: str, features: torch.Tensor) -> Batch:
        """The same with features (B, T, d_m) or (B, d_m) in the place of the token ids (B, T) of a modality."""
        masks = {name: mask for name, mask in self.masks.items() if name != modality or features.dim() == 3}
        return replace(self, inputs=self.inputs | {modality: features}, masks=masks, _moments={})

    def detached(self) -> Batch:
        """The batch with its inputs detached from the autograd graph; the same object where they have none."""
        if not any(values.requires_grad for values in self.inputs.values()):
            return self
        return replace(self, inputs={name: values.detach() for name, values in self.inputs.items()}, _moments={})


def batches(split: Split, size: int, order: np.ndarray | None = None, device: str = "cpu") -> Iterator[Batch]:
    """Batches of `size` samples (the last may be smaller) in the given order of sample indices, or as they stand."""
    order = np.arange(len(split)) if order is None else order
    return gathered(split, (order[start : start + size] for start in range(0, len(order), size)), device)


def gathered(split: Split, parts: Iterable[np.ndarray], device: str = "cpu") -> Iterator[Batch]:
    """One batch for each array of sample indices.

    Rows are gathered by NumPy, so the split may live read-only in shared memory. Padding costs as much as what is real:
    token ids, which have theirs at the end, are cut to the longest utterance of the batch, and sequences of features to
    about that, see `msa_models.lengths`.
    """
    for rows in parts:
        masks = {name: _gathered(array, rows) for name, array in split.masks.items()}
        steps: dict[str, int | None] = {}
        for name, mask in masks.items():
            longest, most = int(lengths(mask.numpy()).max(initial=0)), mask.shape[1]
            steps[name] = longest if split.inputs[name].ndim == 2 else trimmed(longest, most)
            masks[name] = mask[:, : steps[name]]
        inputs = {name: _gathered(array, rows, steps.get(name)) for name, array in split.inputs.items()}
        yield Batch(
            inputs={name: values.to(device) for name, values in inputs.items()},
            masks={name: mask.to(device) for name, mask in masks.items()},
            targets=_gathered(split.targets, rows).to(device),
            unimodal={name: _gathered(array, rows).to(device) for name, array in split.unimodal.items()},
        )


def without(batch: Batch, missing: Mapping[str, torch.Tensor], empty_text: Sequence[int] = ()) -> Batch:
    """The batch without what is True in `missing`: of a modality whole samples (B,) bool, or steps (B, T) bool.

    Token ids (B, T) of a sample that is missing become those of the empty text; of them there are no missing steps.
    """
    inputs, masks = dict(batch.inputs), dict(batch.masks)
    for modality, gone in missing.items():
        values, mask = inputs[modality], masks.get(modality)
        if mask is None:
            inputs[modality] = values.masked_fill(gone.unsqueeze(1), 0.0)
        elif values.dim() == 2:
            inputs[modality], masks[modality] = _emptied(values, mask, gone, empty_text)
        else:
            steps = gone.unsqueeze(1) if gone.dim() == 1 else gone
            left = mask & ~steps
            left[:, 0] |= ~left.any(1)
            inputs[modality], masks[modality] = values.masked_fill(steps.unsqueeze(-1), 0.0), left
    return replace(batch, inputs=inputs, masks=masks, _moments={})


def dropped(batch: Batch, probability: float, seed: int, place: Sequence[int], empty_text: Sequence[int] = ()) -> Batch:
    """A batch of training without the modalities of its samples that `modality_dropout` draws."""
    return without(batch, modality_dropout(batch, probability, seed, place), empty_text)


def modality_dropout(batch: Batch, probability: float, seed: int, place: Sequence[int]) -> dict[str, torch.Tensor]:
    """Which modalities, (B,) bool each, are missing of each sample in training: each with this probability by itself.

    Of a sample that would lose all of them one stays, any with the same probability [ours]. The draws depend on the
    seed and on `place`, which tells this batch from all others (`Progress.place`), and on nothing else. ModDrop drops
    in the same way, without the one that stays (Neverova et al. 2015, arXiv:1501.00102).
    """
    generator = seeding.generator(seed, "modality dropout", *place)
    shape = (len(batch), len(batch.inputs))
    gone, order = generator.random(shape) < probability, generator.random(shape)
    gone[gone.all(axis=1), order.argmax(axis=1)[gone.all(axis=1)]] = False
    device = batch.targets.device
    return {
        modality: torch.from_numpy(np.ascontiguousarray(gone[:, index])).to(device)
        for index, modality in enumerate(batch.inputs)
    }


def _gathered(array: np.ndarray, rows: np.ndarray, steps: int | None = None) -> torch.Tensor:
    """Rows of an array, or their first steps, gathered into memory that torch allocates.

    NumPy aligns memory by chance, and the last bits of a sum depend on the alignment.
    """
    shape = array.shape[1:] if steps is None else (steps, *array.shape[2:])
    out = torch.empty((len(rows), *shape), dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype)
    if shape == array.shape[1:]:
        np.take(array, rows, axis=0, out=out.numpy(), mode="clip")  # any other mode would gather into a buffer first
    else:
        for place, row in zip(out.numpy(), rows.tolist(), strict=True):
            place[...] = array[row, :steps]
    return out


def _masked_moments(inputs: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    if mask is None:
        return inputs, torch.zeros_like(inputs)
    real = mask.unsqueeze(-1).to(inputs.dtype)
    count = real.sum(-2).clamp_min(1.0)
    mean = (inputs * real).sum(-2) / count
    variance = ((inputs - mean.unsqueeze(-2)).square() * real).sum(-2) / count
    return mean, (variance + STD_EPSILON).sqrt()


def _emptied(
    ids: torch.Tensor, mask: torch.Tensor, gone: torch.Tensor, empty_text: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask with the empty text in these rows."""
    assert empty_text, "whoever tokenises a corpus says what an empty text is"
    length = min(len(empty_text), ids.shape[1])
    row = torch.zeros_like(ids[0])
    row[:length] = torch.tensor(empty_text[:length], device=ids.device)
    real = torch.arange(ids.shape[1], device=ids.device) < length
    return torch.where(gone.unsqueeze(1), row, ids), torch.where(gone.unsqueeze(1), real, mask)
