import dataclasses
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.feature_diversity import FeatureDiversity
from msa_models.representations import Forward, Representation
from msa_models.seams import Component

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]


def loss_of(forward: Forward) -> torch.Tensor:
    return FeatureDiversity().loss(nn.Module(), forward)


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("text", "vision")])
def test_it_sums_the_mean_squared_cosine_over_the_pairs_of_modalities(
    make_forward: MakeForward, modalities: tuple[str, ...]
) -> None:
    forward = make_forward(modalities)
    expected = 0.0
    for first, second in combinations(modalities, 2):
        a, b = (forward.representations[name].hidden[:, 0].detach().numpy() for name in (first, second))
        cosines = [u @ v / (np.linalg.norm(u) * np.linalg.norm(v)) for u, v in zip(a, b, strict=True)]
        expected += np.mean(np.square(cosines))
    assert loss_of(forward).item() == pytest.approx(expected, rel=1e-10)


def test_a_modality_alone_is_diverse_enough(make_forward: MakeForward) -> None:
    assert loss_of(make_forward(("audio",))).item() == 0.0


def test_equal_opposite_and_orthogonal_representations_score_1_1_and_0(make_forward: MakeForward) -> None:
    forward = make_forward(("text", "audio"), sequences=())
    text = torch.zeros(6, 1, 8, dtype=torch.float64)
    text[..., 0] = 2.0
    for audio, expected in ((text, 1.0), (-3 * text, 1.0), (text.roll(1, -1), 0.0)):
        pair = {"text": Representation(hidden=text), "audio": Representation(hidden=audio)}
        assert loss_of(dataclasses.replace(forward, representations=pair)).item() == pytest.approx(expected)
