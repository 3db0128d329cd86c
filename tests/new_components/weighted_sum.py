"""Weighted sum: one learned weight for each modality."""

from __future__ import annotations

from dataclasses import dataclass

from msa_models.lazy import nn, torch
from msa_models.representations import Representations, Shared, pooled
from msa_models.seams import Fusion, Shapes


@dataclass(frozen=True, kw_only=True)
class WeightedSum(Fusion):
    """sum_m w_m h_m (B, D)."""

    def fused_width(self, shapes: Shapes) -> int:
        return shapes.width

    def parts(self, shapes: Shapes) -> nn.Module:
        parts = nn.Module()
        parts.register_parameter("weight", nn.Parameter(torch.ones(len(shapes.inputs))))
        return parts

    def fuse(self, parts: nn.Module, representations: Representations, shared: Shared) -> torch.Tensor:
        return torch.einsum("m,mbd->bd", parts.get_parameter("weight"), pooled(representations))
