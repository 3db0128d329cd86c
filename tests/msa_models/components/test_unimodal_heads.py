from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
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


def test_heads_learn_from_labels_of_their_own_where_there_are_some(
    make_forward: MakeForward, make_parts: MakeParts
) -> None:
    forward = make_forward(("text", "audio"))
    own = {"audio": torch.linspace(-1, 1, len(forward.batch), dtype=torch.float64)}
    labelled = replace(forward, batch=replace(forward.batch, unimodal=own))
    parts = make_parts(UnimodalHeads(), forward)
    assert isinstance(parts, nn.ModuleDict)
    errors = {
        name: [
            (parts[name](forward.representations[name].pooled).squeeze(-1) - targets).abs().mean().item()
            for targets in (forward.batch.targets, own["audio"])
        ]
        for name in ("text", "audio")
    }
    shared = UnimodalHeads().loss(parts, forward).item()
    assert shared == pytest.approx((errors["text"][0] + errors["audio"][0]) / 2)
    assert UnimodalHeads(labels="shared").loss(parts, labelled).item() == shared
    assert UnimodalHeads().loss(parts, labelled).item() == pytest.approx((errors["text"][0] + errors["audio"][1]) / 2)
    with pytest.raises(ValueError, match="no labels of text alone"):
        UnimodalHeads(labels="own").loss(parts, labelled)
    both = replace(forward, batch=replace(forward.batch, unimodal={**own, "text": own["audio"]}))
    found = UnimodalHeads(labels="own").loss(parts, both).item()
    assert (
        found == UnimodalHeads().loss(parts, both).item() == pytest.approx((errors["text"][1] + errors["audio"][1]) / 2)
    )
