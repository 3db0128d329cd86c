"""How well predictions fit the labels of a batch, by which rules that balance modalities score them.

What the labels are decides what fits: numbers (…, B), class indices (…, B) or, where a sample may have several of K
labels, 0 and 1 (…, B, K). This is the only place above the boundary that asks.

B batch, K outputs, M modalities or what else predictions are of, `…` leading axes of models that are trained together.
"""

from __future__ import annotations

from msa_models.lazy import functional, torch


def likelihood(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(…, M, B) in (0, 1] of predictions (…, M, B, K): the softmax probability of the true class; exp(-|yhat - y|) of
    numbers [ours]; of several labels the probability of the truth, mean over the labels [ours].
    """
    if _several(predictions, targets):
        return _signed(predictions, targets).sigmoid().mean(-1)
    if targets.is_floating_point():
        return (predictions.squeeze(-1) - targets.unsqueeze(-2)).abs_().neg_().exp_()
    return predictions.softmax(-1).gather(-1, _of_each(predictions, targets)).squeeze(-1)


def log_likelihood(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(…, M, B), at most 0, of predictions (…, M, B, K): the log of the softmax probability of the true class;
    -|yhat - y| of numbers [ours]; of several labels the log of the probability of the truth, mean over the labels
    [ours].
    """
    if _several(predictions, targets):
        return functional.logsigmoid(_signed(predictions, targets)).mean(-1)
    if targets.is_floating_point():
        return (predictions.squeeze(-1) - targets.unsqueeze(-2)).abs_().neg_()
    return functional.log_softmax(predictions, dim=-1).gather(-1, _of_each(predictions, targets)).squeeze(-1)


def hits(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(…, M, B) of predictions (…, M, B, K): whether the class is right, or the sign of a number; the share of right
    ones among several labels.
    """
    if _several(predictions, targets):
        return ((predictions > 0) == (targets.unsqueeze(-3) > 0)).to(predictions).mean(-1)
    if targets.is_floating_point():
        return ((predictions.squeeze(-1) > 0) == (targets.unsqueeze(-2) > 0)).to(predictions)
    return (predictions.argmax(-1) == targets.unsqueeze(-2)).to(predictions)


def expected(prediction: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a prediction (…, B, K) expects and what is there, both (…, B, K): numbers, or the probabilities of classes
    and of labels, and 0 and 1.
    """
    if targets.dim() == prediction.dim():
        return prediction.sigmoid(), targets
    if targets.is_floating_point():
        return prediction, targets.unsqueeze(-1)
    return prediction.softmax(-1), functional.one_hot(targets, prediction.shape[-1]).to(prediction.dtype)


def flattened(predictions: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions (…, M B, K) of (…, M, B, K), and the targets as often, one after the other."""
    axis = predictions.dim() - 3
    repeated = targets.unsqueeze(axis).expand(*predictions.shape[:-1], *targets.shape[axis + 1 :])
    return predictions.flatten(-3, -2), repeated.flatten(axis, axis + 1)


def _several(predictions: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether samples may have several labels."""
    return targets.dim() == predictions.dim() - 1


def _signed(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Logits (…, M, B, K) of the truth: turned round where a label is absent."""
    return predictions * (2.0 * targets - 1.0).unsqueeze(-3)


def _of_each(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return targets.unsqueeze(-2).expand(predictions.shape[:-1]).unsqueeze(-1)
