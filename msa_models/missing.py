"""What a network is given of a modality, or of steps of it, that are missing: the mean of the training split.

Standardised features are 0 there, and steps of a sequence are no real ones, as padding is [ours]. A sequence of which
nothing is left keeps its first step, as 0: attention over no step at all has no value. Of a text that is fine-tuned
the empty text takes the place.

B batch, T time steps, d_m feature width, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from msa_models import seeding
from msa_models.batch import Batch
from msa_models.lazy import torch


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
