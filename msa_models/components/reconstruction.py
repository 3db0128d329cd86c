"""Reconstruction of the unimodal inputs (REC): a representation must still know what it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from msa_models.lazy import nn, torch
from msa_models.losses import squared_error
from msa_models.representations import Forward
from msa_models.seams import LossTerm, Shapes


@dataclass(frozen=True, kw_only=True)
class Reconstruction(LossTerm):
    """mean_m mean((D_m(h_m) - xbar_m)^2), xbar_m the masked time mean of the standardised input, D_m linear.

    In the objective of CP-SL (arXiv:2605.28575) [read]; the formula is our reading [ours].
    """

    stacks: ClassVar[bool] = True

    weight: Annotated[float, Ge(0), Lt(inf)] = 0.1

    def parts(self, shapes: Shapes) -> nn.Module:
        return nn.ModuleDict({name: nn.Linear(shapes.width, features) for name, features in shapes.inputs.items()})

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        assert isinstance(parts, nn.ModuleDict)
        losses = []
        for modality, representation in forward.representations.items():
            mean, _ = forward.batch.moments(modality)
            losses.append(squared_error(parts[modality](representation.pooled), mean))
        return torch.stack(losses).mean(0)
