"""Statistical Loss (SL): predicted statistics are pulled towards the empirical statistics of the input.

B batch, D width, d_m feature width, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Lt

from msa_models.batch import STD_EPSILON
from msa_models.lazy import nn, torch
from msa_models.likelihood import expected
from msa_models.losses import squared_error
from msa_models.representations import STATISTICS, Forward
from msa_models.seams import LossTerm, Shapes


@dataclass(frozen=True, kw_only=True)
class StatisticalLoss(LossTerm):
    """Aligns predicted distribution statistics with empirical ones (CP-SL, arXiv:2605.28575 [paper]; formulas [ours]).

    target "input", sequences: mean over m, B and features of (mu_hat - xbar_m)^2 + (sigma_hat - s_m)^2, where a head on
    h_m predicts the masked temporal mean xbar_m and standard deviation s_m. Utterance vectors have no time axis: there
    the moments of P_m h_m over the batch are compared with those of x_m.
    target "prediction": (mean_B yhat - mean_B y)^2 + (std_B yhat - std_B y)^2, averaged over outputs; for classes yhat
    is the softmax and y the one-hot label, for several labels yhat is the sigmoid.

    Its gradients form a group of their own, which the conflict penalty leaves unscaled.
    """

    stacks: ClassVar[bool] = True

    group: ClassVar[str] = STATISTICS

    weight: Annotated[float, Ge(0), Lt(inf)] = 0.1
    target: Literal["input", "prediction"] = "input"

    def parts(self, shapes: Shapes) -> nn.Module:
        if self.target == "prediction":
            return nn.ModuleDict()
        widths = {name: features * (2 if name in shapes.sequences else 1) for name, features in shapes.inputs.items()}
        return nn.ModuleDict({name: nn.Linear(shapes.width, width) for name, width in widths.items()})

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        if self.target == "prediction":
            return _moment_distance(*expected(forward.prediction, forward.batch.targets))
        assert isinstance(parts, nn.ModuleDict)
        losses = []
        for modality, representation in forward.representations.items():
            predicted = parts[modality](representation.pooled)
            if representation.mask is None:
                losses.append(_moment_distance(predicted, forward.batch.inputs[modality]))
            else:
                moments = torch.cat(forward.batch.moments(modality), dim=-1)
                losses.append(2 * squared_error(predicted, moments))
        return torch.stack(losses).mean(0)


def _moment_distance(predicted: torch.Tensor, empirical: torch.Tensor) -> torch.Tensor:
    """Squared distance of the moments over the batch of (B, F) and (B, F), averaged over F."""
    (mean, deviation), (empirical_mean, empirical_deviation) = _moments(predicted), _moments(empirical)
    return (mean - empirical_mean).square().mean(-1) + (deviation - empirical_deviation).square().mean(-1)


def _moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation over the batch; spelt out, because `torch.var` over rows is several times slower."""
    mean = values.mean(-2, keepdim=True)
    return mean.squeeze(-2), ((values - mean).square().mean(-2) + STD_EPSILON).sqrt()
