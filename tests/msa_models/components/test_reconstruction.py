from collections.abc import Callable

import numpy as np
import pytest
from torch import nn

from msa_models.components.reconstruction import Reconstruction
from msa_models.representations import Forward
from msa_models.seams import Component

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]


@pytest.mark.parametrize("sequences", [("text", "audio", "vision"), (), ("audio",)], ids=["sequences", "none", "mixed"])
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio",)])
def test_it_is_the_mean_over_modalities_of_the_squared_distance_from_the_mean_input(
    make_forward: MakeForward, make_parts: MakeParts, modalities: tuple[str, ...], sequences: tuple[str, ...]
) -> None:
    forward = make_forward(modalities, sequences=sequences)
    parts = make_parts(Reconstruction(), forward)
    assert isinstance(parts, nn.ModuleDict)
    losses = []
    for modality in modalities:
        inputs = forward.batch.inputs[modality].numpy()
        if modality in forward.batch.masks:
            masks = forward.batch.masks[modality].numpy()
            inputs = np.stack([values[mask].mean(0) for values, mask in zip(inputs, masks, strict=True)])
        weight, bias = (each.detach().numpy() for each in parts[modality].parameters())
        decoded = forward.representations[modality].hidden[:, 0].detach().numpy() @ weight.T + bias
        losses.append(((decoded - inputs) ** 2).mean())
    assert Reconstruction().loss(parts, forward).item() == pytest.approx(np.mean(losses), rel=1e-10)
