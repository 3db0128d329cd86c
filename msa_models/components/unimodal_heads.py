"""Unimodal auxiliary heads (UAH): every modality predicts the label on its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated

from annotated_types import Ge, Lt

from msa_models.lazy import nn, torch
from msa_models.representations import Forward
from msa_models.seams import LossTerm, Shapes


@dataclass(frozen=True, kw_only=True)
class UnimodalHeads(LossTerm):
    """mean_m task_loss(head_m(h_m), y). In the frame of CP-SL (arXiv:2605.28575) [paper]."""

    weight: Annotated[float, Ge(0), Lt(inf)] = 0.3

    def parts(self, shapes: Shapes) -> nn.Module:
        return nn.ModuleDict({name: nn.Linear(shapes.width, shapes.outputs) for name in shapes.modalities})

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        assert isinstance(parts, nn.ModuleDict)
        losses = [
            forward.task_loss(parts[modality](representation.pooled), forward.batch.targets)
            for modality, representation in forward.representations.items()
        ]
        return torch.stack(losses).mean()
