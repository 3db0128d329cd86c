from collections.abc import Callable

import numpy as np
import pytest
from torch import nn

from msa_models.components.unimodal_heads import UnimodalHeads
from msa_models.representations import Forward
from msa_models.seams import Component

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("vision",)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_it_is_the_mean_task_loss_of_heads_that_see_one_modality_each(
    make_forward: MakeForward, make_parts: MakeParts, outputs: int, modalities: tuple[str, ...]
) -> None:
    forward = make_forward(modalities, outputs=outputs)
    parts = make_parts(UnimodalHeads(), forward)
    assert isinstance(parts, nn.ModuleDict)
    losses = []
    for modality in modalities:
        weight, bias = (each.detach().numpy() for each in parts[modality].parameters())
        scores = forward.representations[modality].hidden[:, 0].detach().numpy() @ weight.T + bias
        targets = forward.batch.targets.numpy()
        if outputs == 1:
            losses.append(np.abs(scores[:, 0] - targets).mean())
        else:
            probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            losses.append(-np.log(probabilities[np.arange(len(targets)), targets]).mean())
    assert UnimodalHeads().loss(parts, forward).item() == pytest.approx(np.mean(losses), rel=1e-12)
