"""What some of the modalities say: coalitions, the others being replaced by their training mean [ours], or one alone.

Alone it speaks through a linear head of its own; those of all modalities are applied in one product.

B batch, T time steps, D model width, M modalities, K outputs, S coalitions; leading axes of models may come before.
"""

from __future__ import annotations

from functools import reduce

from msa_models.lazy import nn, torch
from msa_models.representations import Forward, Representation, pooled
from msa_models.seams import Shapes

MOMENTUM = 0.95


def others(scores: torch.Tensor) -> torch.Tensor:
    """The mean (…, M) of the scores (…, M) of all modalities but one."""
    total = reduce(torch.add, scores.unbind(-1)).unsqueeze(-1)  # one after the other, in any number of models
    return (total - scores) / (scores.shape[-1] - 1)


def remembered(shapes: Shapes) -> nn.Module:
    """Parts that remember the mean of each modality's pooled representation, over training."""
    parts = nn.Module()
    parts.register_buffer("means", torch.zeros(len(shapes.inputs), shapes.width))
    parts.register_buffer("steps", torch.zeros(()))
    return parts


def follow(parts: nn.Module, forward: Forward) -> torch.Tensor:
    """The exponential averages (M, D) after this batch; the first batch initialises them.

    The tensor returned is the buffer itself, which the next batch changes.
    """
    means, steps = parts.get_buffer("means"), parts.get_buffer("steps")
    moved = torch.where(steps > 0, means.new_tensor(1.0 - MOMENTUM), 1.0)
    means.lerp_(pooled(forward.representations).mean(-2), moved[..., None, None])
    steps.add_(1.0)
    return means


def predictions(forward: Forward, means: torch.Tensor, coalitions: torch.Tensor) -> torch.Tensor:
    """Predictions (S, B, K) of the coalitions (S, M) bool, in one pass through fusion and head, without dropout.

    A modality outside the coalition is its mean, at every time step.
    """
    members, outside, replaced = coalitions.tolist(), means.unbind(-2), {}
    for m, (modality, representation) in enumerate(forward.representations.items()):
        inside, mask = representation.hidden.detach(), representation.mask
        mean = outside[m][..., None, None, :].expand_as(inside).contiguous()  # cheaper to concatenate
        hidden = torch.cat([inside if coalition[m] else mean for coalition in members], dim=-3)
        repeated = None if mask is None else torch.cat([mask] * len(members), dim=-2)
        replaced[modality] = Representation(hidden=hidden, mask=repeated)
    return forward.conclude(replaced).unflatten(-2, (len(members), -1))


def add_heads(parts: nn.Module, shapes: Shapes) -> None:
    """Give parts the `weight` (M, D, K) and `bias` (M, K) of as many linear layers as there are modalities."""
    heads = [nn.Linear(shapes.width, shapes.outputs) for _ in shapes.inputs]
    parts.register_parameter("weight", nn.Parameter(torch.stack([head.weight.T for head in heads]).detach()))
    parts.register_parameter("bias", nn.Parameter(torch.stack([head.bias for head in heads]).detach()))


def alone(parts: nn.Module, summaries: torch.Tensor) -> torch.Tensor:
    """(M, B, K): what each modality predicts from its summaries (M, B, D) alone."""
    bias, weight = parts.get_parameter("bias").unsqueeze(-2), parts.get_parameter("weight")
    products = torch.baddbmm(bias.flatten(0, -3), summaries.flatten(0, -3), weight.flatten(0, -3))
    return products.view(*summaries.shape[:-1], -1)
