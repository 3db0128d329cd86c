"""Predictions of coalitions: what the network says when some modalities are replaced by their training mean [ours].

B batch, T time steps, D model width, M modalities, K outputs, S coalitions.
"""

from __future__ import annotations

from msa_models.lazy import nn, torch
from msa_models.representations import Forward, Representation, pooled
from msa_models.seams import Shapes

MOMENTUM = 0.95


def remembered(shapes: Shapes) -> nn.Module:
    """Parts that remember the mean of each modality's pooled representation, over training."""
    parts = nn.Module()
    parts.register_buffer("means", torch.zeros(len(shapes.inputs), shapes.width))
    parts.register_buffer("steps", torch.zeros(()))
    return parts


def follow(parts: nn.Module, forward: Forward) -> torch.Tensor:
    """The exponential averages (M, D), after this batch; the first one initialises them, the next one changes them."""
    means, steps = parts.get_buffer("means"), parts.get_buffer("steps")
    means.lerp_(pooled(forward.representations).mean(1), 1.0 - MOMENTUM if steps.item() else 1.0)
    steps.add_(1.0)
    return means


def predictions(forward: Forward, means: torch.Tensor, coalitions: torch.Tensor) -> torch.Tensor:
    """Predictions (S, B, K) of the coalitions (S, M) bool, in one pass through fusion and head, without dropout.

    A modality outside the coalition is its mean, at every time step.
    """
    members, outside, replaced = coalitions.tolist(), means.unbind(), {}
    for m, (modality, representation) in enumerate(forward.representations.items()):
        inside, mask = representation.hidden.detach(), representation.mask
        mean = outside[m].expand_as(inside).contiguous()  # cheaper to concatenate
        hidden = torch.cat([inside if coalition[m] else mean for coalition in members])
        repeated = None if mask is None else mask.repeat(len(members), 1)
        replaced[modality] = Representation(hidden=hidden, mask=repeated)
    return forward.conclude(replaced).reshape(len(members), len(forward.batch), -1)
