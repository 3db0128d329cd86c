"""Unimodal auxiliary heads (UAH): every modality predicts the label on its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Lt

from msa_models.lazy import nn, torch
from msa_models.representations import Forward
from msa_models.seams import LossTerm, Shapes


@dataclass(frozen=True, kw_only=True)
class UnimodalHeads(LossTerm):
    """mean_m task_loss(head_m(h_m), y_m). In the frame of CP-SL (arXiv:2605.28575) [paper].

    y_m is the label y of the utterance, or what modality m was labelled with by itself, as CH-SIMS is (Yu et al. 2020,
    ACL 2020.acl-main.343). `labels: shared` takes y for all heads, `own` takes y_m for all and needs a corpus that has
    them; left out (null), heads learn from y_m where the corpus has it and from y where not.
    """

    stacks: ClassVar[bool] = True

    weight: Annotated[float, Ge(0), Lt(inf)] = 0.3
    labels: Literal["shared", "own"] | None = None

    def parts(self, shapes: Shapes) -> nn.Module:
        return nn.ModuleDict({name: nn.Linear(shapes.width, shapes.outputs) for name in shapes.modalities})

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        assert isinstance(parts, nn.ModuleDict)
        batch = forward.batch
        own = {} if self.labels == "shared" else batch.unimodal
        if self.labels == "own" and (missing := [name for name in forward.representations if name not in own]):
            raise ValueError(
                f"{self.name}.labels is own, but the corpus has no labels of {missing[0]} alone; set it to shared"
            )
        losses = [
            forward.task_loss(parts[modality](representation.pooled), own.get(modality, batch.targets))
            for modality, representation in forward.representations.items()
        ]
        return torch.stack(losses).mean(0)
