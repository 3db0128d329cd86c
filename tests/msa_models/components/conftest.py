"""Forward passes made of random numbers, in float64, without encoders in front."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from msa_models import seeding
from msa_models.batch import Batch
from msa_models.representations import Forward, Representation, Representations
from msa_models.seams import Component, Shapes

MakeForward = Callable[..., Forward]
MakeParts = Callable[..., nn.Module]
Conclude = Callable[[Representations], torch.Tensor]

FEATURES = {"text": 6, "audio": 4, "vision": 5}
WIDTH = 8
STEPS = {"text": 5, "audio": 7, "vision": 3}


def task_loss(prediction: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if targets.dim() == 2:
        return nn.functional.binary_cross_entropy_with_logits(prediction, targets)
    if prediction.shape[-1] > 1:
        return nn.functional.cross_entropy(prediction, targets)
    return (prediction.squeeze(-1) - targets).abs().mean()


def conclude_with(outputs: int) -> Conclude:
    """A way to a prediction (B, outputs) that can be followed by hand: fixed weights on the mean of the summaries."""
    weights = torch.linspace(-1.0, 1.0, WIDTH * outputs, dtype=torch.float64).reshape(WIDTH, outputs)

    def conclude(representations: Representations) -> torch.Tensor:
        return torch.stack([representation.pooled for representation in representations.values()]).mean(0) @ weights

    return conclude


@pytest.fixture
def make_forward() -> MakeForward:
    """`make_forward(("audio", "text"), sequences=("text",), outputs=3, batch=1)`; each sample has a real step.

    `several`: the outputs are labels of which a sample may have several.
    """

    def make(
        modalities: Sequence[str] = ("text", "audio", "vision"),
        *,
        sequences: Sequence[str] = ("text", "audio", "vision"),
        outputs: int = 1,
        batch: int = 6,
        seed: int = 0,
        several: bool = False,
    ) -> Forward:
        draws = np.random.default_rng(seed)
        inputs, masks, representations = {}, {}, {}
        for modality in modalities:
            steps, features = STEPS[modality], FEATURES[modality]
            mask = torch.from_numpy(np.arange(steps) < draws.integers(1, steps + 1, batch)[:, None])
            hidden = draws.standard_normal((batch, 1 + steps, WIDTH))
            values = torch.from_numpy(draws.standard_normal((batch, steps, features)))
            if modality in sequences:
                inputs[modality], masks[modality] = values * mask.unsqueeze(-1), mask
                leaf = torch.from_numpy(hidden).requires_grad_()
                representations[modality] = Representation(hidden=leaf, mask=mask)
            else:
                inputs[modality] = values[:, 0]
                representations[modality] = Representation(hidden=torch.from_numpy(hidden[:, :1]).requires_grad_())
        labels = draws.integers(0, outputs, batch) if outputs > 1 else draws.standard_normal(batch)
        labels = draws.integers(0, 2, (batch, outputs)).astype(np.float64) if several else labels
        return Forward(
            batch=Batch(inputs=inputs, masks=masks, targets=torch.from_numpy(labels)),
            representations=representations,
            prediction=torch.from_numpy(draws.standard_normal((batch, outputs))).requires_grad_(),
            task_loss=task_loss,
            conclude=conclude_with(outputs),
        )

    return make


@pytest.fixture
def make_parts() -> MakeParts:
    """The parts of a component for a forward pass, in float64."""

    def make(component: Component, forward: Forward) -> nn.Module:
        shapes = Shapes(
            inputs={modality: FEATURES[modality] for modality in forward.representations},
            sequences=frozenset(forward.batch.masks),
            width=WIDTH,
            outputs=forward.prediction.shape[-1],
            several=forward.batch.targets.dim() == 2,
        )
        with seeding.scope(0, "component under test"):
            return component.parts(shapes).double()

    return make
