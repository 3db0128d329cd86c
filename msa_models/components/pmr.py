"""Prototypical modal rebalance (PMR): modalities that lag behind are drawn to the prototypes of their classes.

M modalities, B batch, D width, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Ge, Le, Lt

from msa_models import coalitions
from msa_models.components.prototypes import PrototypeMemory
from msa_models.lazy import nn, torch
from msa_models.representations import Forward, pooled
from msa_models.seams import LossTerm, Shapes

SMALLEST = 2.0**-126  # what a score counts at least, the smallest normal float32


@dataclass(frozen=True, kw_only=True)
class Pmr(LossTerm):
    """sum_m beta_m L_m, L_m = mean_B -log softmax_k(-||h_m - c_mk||)[y] [read]; 0 for a single modality.

    PMR, arXiv:2211.07089: the slower modality alone is stimulated, by clustering towards prototypes of the classes
    [paper]. c_mk is the prototype of class k in modality m, into which no gradient flows [read]. s_m is the mean
    probability that this softmax gives to the true class [read]; beta_m = clip(s_other / s_m - 1, 0, 1), so the better
    modality gets no such loss [paper]; the authors' own code has 1 for the slower one [read].
    s_other is the mean of the others where there are more than one [ours].

    The authors make the prototypes anew after each epoch, of a tenth of the training split, and keep 0.2 of the old
    ones [read]; here each batch moves them before they are used, c <- gamma c + (1 - gamma) batch class mean, and gamma
    0.96 keeps 0.2 over 40 batches [ours]. Regression labels become `classes` classes by rounding and clipping [ours],
    and several labels are shared out among the classes, see `PrototypeMemory`; log-probabilities are averaged by those
    shares [ours].

    Left out: the entropy regularisation of the first epochs [paper]; a loss term is not told the epoch.
    """

    stacks: ClassVar[bool] = True

    balancing: ClassVar[bool] = True

    weight: Annotated[float, Ge(0), Lt(inf)] = 1.0
    classes: Annotated[int, Ge(2), Le(101)] = 7
    gamma: Annotated[float, Ge(0), Lt(1)] = 0.96

    def parts(self, shapes: Shapes) -> nn.Module:
        return self._memory.parts(shapes)

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        num_modalities = len(forward.representations)
        if num_modalities == 1:
            return forward.prediction.new_zeros(forward.prediction.shape[:-2])
        summaries, memory = pooled(forward.representations), self._memory
        labels = memory.labels(parts, forward.batch.targets)
        known = memory.learn(parts, summaries, labels) if parts.training else memory.recall(parts)
        logits = _logits(summaries, known.centers, known.seen)
        if labels.is_floating_point():
            shares = labels.unsqueeze(-3)
            losses = -torch.where(shares > 0, shares * logits.log_softmax(-1), 0.0).sum(-1)  # (…, M, B)
        else:
            own = labels.unsqueeze(-2).expand(logits.shape[:-1]).unsqueeze(-1)
            losses = -logits.log_softmax(-1).gather(-1, own).squeeze(-1)
        score = losses.detach().neg().exp_().mean(-1)
        coefficient = _coefficients(score.double()).to(score)
        forward.log.update({f"{self.name}/score": score, f"{self.name}/coefficient": coefficient})
        return torch.linalg.vecdot(coefficient, losses.mean(-1))

    @property
    def _memory(self) -> PrototypeMemory:
        return PrototypeMemory(classes=self.classes, gamma=self.gamma)


def _coefficients(scores: torch.Tensor) -> torch.Tensor:
    """Beta_m (…, M) of every modality."""
    return (coalitions.others(scores) / scores.clamp_min(SMALLEST) - 1.0).clamp(0.0, 1.0)


def _logits(summaries: torch.Tensor, centers: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Minus the distances (…, M, B, K) of summaries to the centres; -inf for classes not seen, if any was."""
    # Without the matrix product, which loses the digits of small distances. The gradient at distance 0 is 0, not NaN.
    distances = torch.cdist(summaries, centers, compute_mode="donot_use_mm_for_euclid_dist")
    unseen = ~seen & seen.any(-1, keepdim=True)
    return (-distances).masked_fill(unseen[..., None, None, :], -math.inf)
