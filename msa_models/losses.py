"""Losses of each model: means over the samples and what a sample has, over no leading axes.

B batch, F features, K outputs, `…` leading axes of models that are trained together.
"""

from __future__ import annotations

from collections.abc import Callable

from msa_models.lazy import functional, torch

Loss = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]  # quoted: importing this imports no torch


def squared_error(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of (predicted - target)^2 over B and F, (…), of (…, B, F)."""
    if predicted.dim() == 2:  # one operation
        return functional.mse_loss(predicted, target)
    return (predicted - target).square().mean((-2, -1))


def regression_loss(kind: str) -> Loss:
    """`l1` or `mse` of predictions (…, B, 1) and numbers (…, B)."""
    if kind == "l1":
        return lambda prediction, targets: (prediction.squeeze(-1) - targets).abs().mean(-1)
    return lambda prediction, targets: squared_error(prediction, targets.unsqueeze(-1))


def class_loss(prediction: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of scores (…, B, K) and class indices (…, B)."""
    if prediction.dim() == 2:
        return functional.cross_entropy(prediction, targets)
    losses = functional.cross_entropy(prediction.flatten(0, -2), targets.flatten(), reduction="none")
    return losses.view(targets.shape).mean(-1)


def label_loss(prediction: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of logits (…, B, K) and 0 or 1 (…, B, K), mean over samples and labels."""
    losses = functional.binary_cross_entropy_with_logits(prediction, targets, reduction="none")
    return losses.mean((-2, -1))
