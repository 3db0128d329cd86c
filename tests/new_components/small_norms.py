"""Small norms: no representation may grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from msa_models.lazy import nn, torch
from msa_models.representations import Forward, pooled
from msa_models.seams import LossTerm


@dataclass(frozen=True, kw_only=True)
class SmallNorms(LossTerm):
    """The mean square of all h_m."""

    weight: Annotated[float, Ge(0)] = 0.01

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        return pooled(forward.representations).square().mean()
