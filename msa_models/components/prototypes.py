"""Prototypes: the centres of the classes in each modality, which several components of PaSE read.

Calibration trains towards them, alignment transports between them, fusion trusts a modality by them and Shapley
modulation measures by them.

B batch, D model width, M modalities, K classes, P = M (M - 1) / 2 pairs of modalities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Lt

from msa_models.batch import Batch
from msa_models.geometry import Geometry, Prototypes
from msa_models.lazy import nn, torch
from msa_models.representations import Representations, Shared, pooled
from msa_models.seams import Shapes, SharedState


@dataclass(frozen=True, kw_only=True)
class PrototypeMemory(SharedState):
    """c <- gamma c + (1 - gamma) batch class mean; the first batch of a class initialises it, absent ones stay [read].

    PaSE, arXiv:2511.17585. Regression labels become `classes` equal steps of the label's range by rounding (7 on
    [-3, 3]: Acc-7's classes) and clipping [ours]; a classification task has its own. Where a sample may have several
    labels, each is a class of which the mean is over all that have it, and to have none is a class too; what a sample
    should be near is shared equally by its classes [ours]. `tau` is the temperature of the softmax over cosines to the
    prototypes.
    """

    stacks: ClassVar[bool] = True
    varies: ClassVar[tuple[str, ...]] = ("gamma", "tau")

    classes: Annotated[int, Ge(2), Le(101)] = 7
    gamma: Annotated[float, Ge(0), Lt(1)] = 0.98
    tau: Annotated[float, Gt(0), Lt(inf)] = 0.1

    def parts(self, shapes: Shapes) -> nn.Module:
        classes = shapes.outputs + 1 if shapes.several else self.classes if shapes.outputs == 1 else shapes.outputs
        parts = nn.Module()
        parts.register_buffer("centers", torch.zeros(len(shapes.inputs), classes, shapes.width))
        parts.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))
        parts.register_buffer("identity", torch.eye(classes), persistent=False)
        parts.register_buffer("upper", _upper(classes, shapes.limit), persistent=False)
        num_pairs = len(shapes.inputs) * (len(shapes.inputs) - 1) // 2
        parts.register_buffer("potentials", torch.zeros(num_pairs, classes, dtype=torch.float64))  # see `Geometry`
        return parts

    def recall(self, parts: nn.Module) -> Prototypes:
        return Prototypes(
            centers=parts.get_buffer("centers").clone(), seen=parts.get_buffer("seen").clone(), tau=self.tau
        )

    def observe(
        self, parts: nn.Module, known: Prototypes, batch: Batch, representations: Representations, shared: Shared
    ) -> Geometry:
        summaries, labels = pooled(representations).detach(), self.labels(parts, batch.targets)
        return Geometry(
            prototypes=self.learn(parts, summaries, labels) if parts.training else known,
            representations=representations,
            pooled=summaries,
            labels=labels,
            potentials=parts.get_buffer("potentials"),
        )

    def labels(self, parts: nn.Module, targets: torch.Tensor) -> torch.Tensor:
        """The class (B,) of each target; of several labels the share (B, K) of each class, the last one for none."""
        if targets.dim() > parts.get_buffer("seen").dim():  # several labels
            classes = torch.cat([targets, (~targets.any(-1, keepdim=True)).to(targets)], dim=-1)
            return classes / classes.sum(-1, keepdim=True)
        if not targets.is_floating_point():
            return targets
        return torch.bucketize(targets, parts.get_buffer("upper").to(targets))

    def learn(self, parts: nn.Module, pooled: torch.Tensor, labels: torch.Tensor) -> Prototypes:
        """The prototypes after a batch of pooled (M, B, D), remembered and returned without gradients."""
        centers, seen = parts.get_buffer("centers"), parts.get_buffer("seen")
        with torch.no_grad():
            identity = parts.get_buffer("identity")
            of_class = (labels > 0).to(identity) if labels.is_floating_point() else identity[labels]  # (…, B, K)
            members = of_class.mT.contiguous()
            count = members.sum(-1, keepdim=True)
            shares = members / count.clamp_min(1.0)
            means = shares.unsqueeze(-3) @ pooled  # (…, M, K, D), 0 for absent classes
            present, known = count.clamp_max(1.0), seen.unsqueeze(-1)
            first = present - self.gamma * (present * known)  # of a class that was not seen
            moved = torch.where(known.all(-2, keepdim=True), present * (1.0 - self.gamma), first)
            seen.logical_or_(present.squeeze(-1))
            new = torch.lerp(centers, means, moved.unsqueeze(-3))
            centers.copy_(new)
        return Prototypes(centers=new, seen=seen.clone(), tau=self.tau, shares=shares)


def _upper(classes: int, limit: float) -> torch.Tensor:
    """The largest label (K - 1,) of every class but the last; halves are rounded to even, as for Acc-7."""
    step = 2 * limit / (classes - 1)
    ends = torch.tensor([(index + 0.5) * step - limit for index in range(classes - 1)])
    zero = classes // 2 if classes % 2 else 0  # an odd number of classes is counted from the middle
    odd = torch.tensor([(index - zero) % 2 == 1 for index in range(classes - 1)])
    return torch.where(odd, ends.nextafter(torch.full_like(ends, -math.inf)), ends)  # this half is the next one's
