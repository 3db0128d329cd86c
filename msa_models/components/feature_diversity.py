"""Feature diversity (DIV): the representations of two modalities should not say the same."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from msa_models.lazy import functional, nn, torch
from msa_models.representations import Forward
from msa_models.seams import LossTerm


@dataclass(frozen=True, kw_only=True)
class FeatureDiversity(LossTerm):
    """sum_{m<n} mean_B cos^2(h_m, h_n); 0 for a single modality.

    In the objective of CP-SL (arXiv:2605.28575) [read]; the formula is our reading [ours].
    """

    stacks: ClassVar[bool] = True

    weight: Annotated[float, Ge(0), Lt(inf)] = 0.05

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        pooled = [representation.pooled for representation in forward.representations.values()]
        total = pooled[0].new_zeros(pooled[0].shape[:-2])
        for first, second in combinations(pooled, 2):
            total = total + functional.cosine_similarity(first, second, dim=-1).square().mean(-1)
        return total
