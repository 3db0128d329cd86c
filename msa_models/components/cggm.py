"""Classifier-guided gradient modulation (CGGM): modalities that improve faster than the others are turned down.

M modalities, B batch, D width, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Gt, Lt

from msa_models import coalitions
from msa_models.config import LATER
from msa_models.lazy import nn, torch
from msa_models.likelihood import flattened, hits
from msa_models.representations import Forward, Gradients, Modulate, Modulation, pooled, scaled
from msa_models.seams import GradientModulator, Progress, Shapes

SMALLEST = 1e-8  # what every improvement counts at least; keeps B_m where none improves


@dataclass(frozen=True, kw_only=True)
class Cggm(GradientModulator):
    """Scales the gradient of encoder m by rho B_m, B_m = sum_{n != m} delta_n / sum_n delta_n [read].

    CGGM, arXiv:2411.01409: classifiers of each modality guide size and direction of the gradients [paper]. delta_m is
    the improvement of a classifier on h_m alone, here between the means over two successive epochs of training [ours];
    the released code compares successive batches [read], whose accuracies differ mostly by chance. The score is
    accuracy [read]; for regression the share of right signs, (yhat > 0) equal to (y > 0), as the released code has it
    on CMU-MOSI [read], and for several labels the share of right ones [ours]. A modality that got worse counts as not
    improved, since with negative delta_n the B_m have no bounds [ours]. So 0 <= B_m <= 1 and their mean is (M - 1) / M,
    which each of them is while no improvement is known or nobody improved; one that alone improved gets 0 for the next
    epoch. rho 1.3 is the released value [read].

    The classifiers are trained on detached representations, so they move nothing else [read]; they are linear, where
    the authors take small Transformers, and share the optimiser of the network [ours]. The sum of their losses is
    reported as `train/cggm`.

    Left out: lambda L_gm in the loss, which pulls the fusion towards the directions of the classifiers' gradients
    [paper]. That needs second derivatives through the fusion's last layer, which a modulator does not see; and the
    released code compares the weights of those layers instead of their gradients [read].

    The statistical loss is left unscaled. A single modality is left alone, without a classifier. `modulate`: see
    `msa_models.representations.scaled`.
    """

    stacks: ClassVar[bool] = True
    varies: ClassVar[tuple[str, ...]] = ("rho",)

    rho: Annotated[float, Gt(0), Lt(inf)] = 1.3
    modulate: Modulate = field(default="gradient", metadata=LATER)

    def parts(self, shapes: Shapes) -> nn.Module:
        num_modalities = len(shapes.inputs)
        if num_modalities == 1:
            return nn.Module()
        parts = nn.Module()
        coalitions.add_heads(parts, shapes)
        parts.register_buffer("sum_of_scores", torch.zeros(num_modalities))
        parts.register_buffer("num_samples", torch.zeros(()))
        parts.register_buffer("previous", torch.zeros(num_modalities))
        parts.register_buffer("num_epochs", torch.zeros(()))
        parts.register_buffer("balance", torch.full((num_modalities,), (num_modalities - 1) / num_modalities))
        return parts

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor | None:
        if len(forward.representations) == 1:
            return None
        predictions = _predictions(parts, forward)
        forward.log[f"{self.name}/score"] = _scores(predictions.detach(), forward.batch.targets)
        num_modalities = len(forward.representations)
        return num_modalities * forward.task_loss(*flattened(predictions, forward.batch.targets))  # a mean over them

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        if len(forward.representations) == 1:
            only = next(iter(forward.representations.values())).hidden
            return Modulation(gradients=gradients.total(), log={"factor": only.new_ones(1)})
        if progress.begins:
            _close_epoch(parts)
        score = forward.log.get(f"{self.name}/score")
        if score is None:
            score = _scores(_predictions(parts, forward), forward.batch.targets)
        num_samples = forward.prediction.shape[-2]
        parts.get_buffer("sum_of_scores").add_(score, alpha=num_samples)
        parts.get_buffer("num_samples").add_(num_samples)
        factor = self.rho * parts.get_buffer("balance")
        return scaled(factor, gradients, self.modulate, {"factor": factor})


def _close_epoch(parts: nn.Module) -> None:
    """Make B (M,) of the scores of the epoch that is over and of the one before it, if there were two."""
    total, count = parts.get_buffer("sum_of_scores"), parts.get_buffer("num_samples")
    previous, num_epochs = parts.get_buffer("previous"), parts.get_buffer("num_epochs")
    balance, known, twice = parts.get_buffer("balance"), (count > 0).unsqueeze(-1), (num_epochs > 0).unsqueeze(-1)
    score = torch.where(known, total / count.unsqueeze(-1), previous)
    improvement = (score - previous).clamp_min(SMALLEST)
    changed = 1.0 - improvement / improvement.sum(-1, keepdim=True)
    balance.copy_(torch.where(known & twice, changed, balance))
    previous.copy_(score)
    num_epochs.add_(known.squeeze(-1))
    total.zero_()
    count.zero_()


def _scores(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Accuracy (M,) of each classifier on the batch, for regression that of the sign."""
    return hits(predictions, targets).mean(-1)


def _predictions(parts: nn.Module, forward: Forward) -> torch.Tensor:
    """(M, B, K): what each modality predicts alone."""
    return coalitions.alone(parts, pooled(forward.representations).detach())
