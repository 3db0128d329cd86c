"""A batch of utterances, cut from a split of the corpus.

B batch, T time steps, d_m feature width of modality m.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from msa_models.data.corpus import Split
from msa_models.lazy import torch

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
    """Batches of `size` samples (the last may be smaller) in the given order of sample indices, or as they stand.

    Rows are gathered by NumPy, so the split may live read-only in shared memory. Token ids, which have their padding at
    the end, are cut to the longest utterance of the batch: padding costs as much as text.
    """
    order = np.arange(len(split)) if order is None else order
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        inputs = {name: _gathered(array, rows) for name, array in split.inputs.items()}
        masks = {name: _gathered(array, rows) for name, array in split.masks.items()}
        for name in masks:
            if inputs[name].dim() == 2:
                longest = int(masks[name].sum(1).max())
                inputs[name], masks[name] = inputs[name][:, :longest], masks[name][:, :longest]
        yield Batch(
            inputs={name: values.to(device) for name, values in inputs.items()},
            masks={name: mask.to(device) for name, mask in masks.items()},
            targets=_gathered(split.targets, rows).to(device),
            unimodal={name: _gathered(array, rows).to(device) for name, array in split.unimodal.items()},
        )


def _gathered(array: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """Rows of an array, gathered into memory that torch allocates.

    NumPy aligns memory by chance, and the last bits of a sum depend on the alignment.
    """
    out = torch.empty((len(rows), *array.shape[1:]), dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype)
    np.take(array, rows, axis=0, out=out.numpy(), mode="clip")  # any other mode would gather into a buffer first
    return out


def _masked_moments(inputs: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    if inputs.dim() == 2 or mask is None:
        return inputs, torch.zeros_like(inputs)
    real = mask.unsqueeze(-1).to(inputs.dtype)
    count = real.sum(1).clamp_min(1.0)
    mean = (inputs * real).sum(1) / count
    variance = ((inputs - mean.unsqueeze(1)).square() * real).sum(1) / count
    return mean, (variance + STD_EPSILON).sqrt()
