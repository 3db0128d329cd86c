"""MMPareto: where the gradients of the multimodal and of a unimodal loss conflict, a step that serves both is taken.

M modalities, B batch, T time steps, D width, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Gt, Lt

from msa_models import coalitions
from msa_models.lazy import nn, torch
from msa_models.likelihood import flattened
from msa_models.representations import STATISTICS, Forward, Gradients, pooled
from msa_models.seams import GradientModulator, Modulation, Progress, Shapes

OPPOSITE = 1e-5  # share of the gradients' size below which their min-norm combination is rounding error


@dataclass(frozen=True, kw_only=True)
class MmPareto(GradientModulator):
    """Each encoder gets gamma ||g + u|| d, d the direction of w g + (1 - w) u [read].

    MMPareto, arXiv:2405.17730: a final gradient whose direction is common to the losses and whose size is enlarged, for
    better generalisation [paper]. g is the gradient of everything but the unimodal and the statistical loss, u that of
    the unimodal one. w = 1/2 unless cos(g, u) < 0; then w = (|u|^2 - g.u) / |g - u|^2, which makes w g + (1 - w) u
    shortest, so that it points against neither [read]. So without conflict the result is gamma (g + u), and with
    conflict it is as long. gamma 1.5 is the released value [read].

    The authors compare the gradients of all parameters of an encoder and restore the length of each parameter's by
    itself [read]; here both is done with the gradient of the representation [ours]. Where g and u are opposite there is
    no such step, and the result is 0 instead of enlarged rounding error [ours].

    The unimodal loss is this component's own: the sum of the task losses of linear heads on h_m [read], reported as
    `train/mmpareto`. The statistical loss is added as it is. A single modality is left alone, without a head.
    """

    stacks: ClassVar[bool] = True
    varies: ClassVar[tuple[str, ...]] = ("gamma",)

    group: ClassVar[str] = "unimodal"

    gamma: Annotated[float, Gt(0), Lt(inf)] = 1.5

    def parts(self, shapes: Shapes) -> nn.Module:
        parts = nn.Module()
        if len(shapes.inputs) > 1:
            coalitions.add_heads(parts, shapes)
        return parts

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor | None:
        num_modalities = len(forward.representations)
        if num_modalities == 1:
            return None
        predictions = coalitions.alone(parts, pooled(forward.representations))
        return num_modalities * forward.task_loss(*flattened(predictions, forward.batch.targets))  # a mean over them

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        hidden = next(iter(forward.representations.values())).hidden
        if len(forward.representations) == 1:
            return Modulation(gradients=gradients.total(), log={"factor": hidden.new_ones(1)})
        sides = {group: each for group, each in gradients.groups.items() if group not in (self.group, STATISTICS)}
        unimodal, statistics = gradients.groups[self.group], gradients.groups.get(STATISTICS)
        result, logged = {}, []
        for modality, multimodal in Gradients(sides).total().items():
            direction, scale, cosine, weight = _shared(multimodal, unimodal[modality])
            logged.append(torch.stack([cosine, (cosine < 0).to(cosine), weight, self.gamma * (scale > 0)]))
            modulated = direction.mul_((self.gamma * scale).to(direction)[..., None, None, None])
            result[modality] = modulated if statistics is None else modulated + statistics[modality]
        cosine, conflict, weight, factor = torch.stack(logged, dim=-1).to(hidden).unbind()
        log = {"cosine": cosine, "conflict_rate": conflict, "weight": weight, "factor": factor}
        return Modulation(gradients=result, log=log)


def _shared(g: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The direction (…, B, 1 + T, D) of the step that serves g and u, what makes it as long as g + u, cos(g, u), w (…).

    The direction is a new tensor. Where no step serves both, the factor on its length is 0. The cosine with a gradient
    of zero is 0.
    """
    flat_g, flat_u = g.flatten(-3), u.flatten(-3)
    gg, uu, gu = _dot(flat_g, flat_g), _dot(flat_u, flat_u), _dot(flat_g, flat_u)
    size = gg.sqrt() * uu.sqrt()
    cosine = torch.where(size > 0, gu / size, 0.0).clamp_min(-1.0)
    conflict = cosine < 0
    w = torch.where(conflict, (uu - gu) / (gg + uu - 2.0 * gu), 0.5)
    shortest, whole = flat_u.lerp(flat_g, w.to(g).unsqueeze(-1)), flat_g + flat_u
    length = _dot(shortest, shortest).sqrt()
    serves = length > OPPOSITE * (gg.sqrt() + uu.sqrt())
    enlarged = torch.where(serves, _dot(whole, whole).sqrt() / length, 0.0)
    scale = torch.where(conflict, enlarged, 1.0)
    direction = torch.where(conflict.unsqueeze(-1), shortest, whole)
    return direction.view_as(g), scale, cosine, w


def _dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The product (…) of vectors, in float64 from here on."""
    return torch.linalg.vecdot(one, other).double()
