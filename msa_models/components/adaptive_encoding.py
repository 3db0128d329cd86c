"""Adaptive modality encoding (AME): each representation is gated by itself and the mean of all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from msa_models.lazy import nn, torch
from msa_models.representations import Representations
from msa_models.seams import Refinement, Shapes


@dataclass(frozen=True, kw_only=True)
class AdaptiveEncoding(Refinement):
    """h_m <- sigmoid(U_m [h_m ; mean_n h_n]) * h_m, the gate also on the time steps of m.

    Named in CP-SL (arXiv:2605.28575) [paper]; the formula is our reading [ours].
    """

    stacks: ClassVar[bool] = True

    def parts(self, shapes: Shapes) -> nn.Module:
        return nn.ModuleDict({name: nn.Linear(2 * shapes.width, shapes.width) for name in shapes.modalities})

    def refine(self, parts: nn.Module, representations: Representations) -> Representations:
        assert isinstance(parts, nn.ModuleDict)
        mean = torch.stack([representation.pooled for representation in representations.values()]).mean(0)
        refined = {}
        for modality, representation in representations.items():
            gate = parts[modality](torch.cat([representation.pooled, mean], dim=-1)).sigmoid()
            refined[modality] = replace(representation, hidden=representation.hidden * gate.unsqueeze(-2))
        return refined
