import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.gated_fusion import GatedFusion
from msa_models.representations import Forward, Representation
from msa_models.seams import Component

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]

CASES = {
    "all sequences": (("text", "audio", "vision"), ("text", "audio", "vision")),
    "all utterances": (("text", "audio", "vision"), ()),
    "the anchor an utterance": (("text", "audio", "vision"), ("audio", "vision")),
    "the anchor a sequence": (("text", "audio", "vision"), ("text",)),
    "no text": (("audio", "vision"), ("audio",)),
    "one alone": (("vision",), ("vision",)),
}


def by_loops(parts: dict[str, np.ndarray], forward: Forward, sample: int) -> np.ndarray:
    """The formula of methods.md for one sample, one step and one modality at a time."""
    hidden = {name: each.hidden[sample].detach().numpy() for name, each in forward.representations.items()}
    masks = {name: mask[sample].numpy() for name, mask in forward.batch.masks.items()}
    modalities = list(hidden)
    anchor = "text" if "text" in modalities else modalities[0]
    steps = hidden[anchor][1:][masks[anchor]] if anchor in masks else hidden[anchor][:1]
    pooled = []
    for step in steps:
        mixed = step.copy()
        for modality in modalities:
            context = hidden[modality][0]
            if modality in masks:
                keys = hidden[modality][1:][masks[modality]]
                scores = np.array([math.exp(step @ key / math.sqrt(len(step))) for key in keys])
                context = (scores / scores.sum()) @ keys
            gate = parts["gate.weight"] @ np.concatenate([step, context]) + parts["gate.bias"]
            value = parts[f"project.{modality}.weight"] @ context + parts[f"project.{modality}.bias"]
            mixed += value / (1 + np.exp(-gate))
        normed = (mixed - mixed.mean()) / np.sqrt(mixed.var() + 1e-5)
        pooled.append(normed * parts["norm.weight"] + parts["norm.bias"])
    everything = np.concatenate([hidden[modality][0] for modality in modalities])
    return np.mean(pooled, axis=0) + parts["residual.weight"] @ everything + parts["residual.bias"]


@pytest.mark.parametrize(("modalities", "sequences"), CASES.values(), ids=CASES)
def test_it_equals_the_formula_spelt_out_in_loops(
    make_forward: MakeForward, make_parts: MakeParts, modalities: tuple[str, ...], sequences: tuple[str, ...]
) -> None:
    forward = make_forward(modalities, sequences=sequences)
    parts = make_parts(GatedFusion(), forward)
    for parameter in parts.parameters():  # a fresh LayerNorm is all ones and zeros, which would hide its part
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    fused = GatedFusion().fuse(parts, forward.representations, {})
    named = {name: parameter.detach().numpy() for name, parameter in parts.named_parameters()}
    for sample in range(len(forward.batch)):
        np.testing.assert_allclose(fused[sample].detach().numpy(), by_loops(named, forward, sample), atol=1e-10)


def test_padded_steps_of_any_modality_change_nothing_and_get_no_gradient(
    make_forward: MakeForward, make_parts: MakeParts
) -> None:
    forward = make_forward()
    parts = make_parts(GatedFusion(), forward)
    fused = GatedFusion().fuse(parts, forward.representations, {})
    fused.square().sum().backward()
    dirty = {}
    for modality, each in forward.representations.items():
        assert each.mask is not None
        assert each.hidden.grad is not None
        padded = torch.cat([torch.zeros_like(each.mask[:, :1]), ~each.mask], dim=1)
        assert padded.any()
        assert not each.hidden.grad[padded].any()
        dirty[modality] = Representation(
            hidden=each.hidden.detach().masked_fill(padded.unsqueeze(-1), 1e3), mask=each.mask
        )
    torch.testing.assert_close(GatedFusion().fuse(parts, dirty, {}), fused, atol=1e-12, rtol=0)
