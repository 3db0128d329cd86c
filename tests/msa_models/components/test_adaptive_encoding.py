from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.adaptive_encoding import AdaptiveEncoding
from msa_models.representations import Forward
from msa_models.seams import Component

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]


@pytest.mark.parametrize("sequences", [("text", "audio", "vision"), (), ("audio",)], ids=["sequences", "none", "mixed"])
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "vision"), ("vision",)])
def test_each_representation_is_gated_by_itself_and_the_mean_of_all(
    make_forward: MakeForward, make_parts: MakeParts, modalities: tuple[str, ...], sequences: tuple[str, ...]
) -> None:
    forward = make_forward(modalities, sequences=sequences)
    parts = make_parts(AdaptiveEncoding(), forward)
    assert isinstance(parts, nn.ModuleDict)
    refined = AdaptiveEncoding().refine(parts, forward.representations)
    assert list(refined) == list(modalities)
    hidden = {name: each.hidden.detach().numpy() for name, each in forward.representations.items()}
    for modality in modalities:
        weight, bias = (each.detach().numpy() for each in parts[modality].parameters())
        for sample in range(len(forward.batch)):
            own = hidden[modality][sample, 0]
            mean = sum(hidden[name][sample, 0] for name in modalities) / len(modalities)
            gate = 1 / (1 + np.exp(-(weight @ np.concatenate([own, mean]) + bias)))
            for position, step in enumerate(hidden[modality][sample]):
                found = refined[modality].hidden[sample, position].detach().numpy()
                np.testing.assert_allclose(found, gate * step, atol=1e-12)


def test_masks_and_the_given_representations_stay_as_they_are(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = make_forward()
    before = {name: each.hidden.detach().clone() for name, each in forward.representations.items()}
    refined = AdaptiveEncoding().refine(make_parts(AdaptiveEncoding(), forward), forward.representations)
    for name, each in forward.representations.items():
        assert refined[name].mask is each.mask
        assert torch.equal(each.hidden, before[name])
