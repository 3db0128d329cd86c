"""What some of the modalities say: coalitions, the others being replaced by their training mean [ours], or one alone.

Alone it speaks through a linear head of its own; those of all modalities are applied in one product.

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
    """The exponential averages (M, D) after this batch; the first batch initialises them.

    The tensor returned is the buffer itself, which the next batch changes.
    """
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


def add_heads(parts: nn.Module, shapes: Shapes) -> None:
    """Give parts the `weight` (M, D, K) and `bias` (M, K) of as many linear layers as there are modalities."""
    heads = [nn.Linear(shapes.width, shapes.outputs) for _ in shapes.inputs]
    parts.register_parameter("weight", nn.Parameter(torch.stack([head.weight.T for head in heads]).detach()))
    parts.register_parameter("bias", nn.Parameter(torch.stack([head.bias for head in heads]).detach()))


def alone(parts: nn.Module, summaries: torch.Tensor) -> torch.Tensor:
    """(M, B, K): what each modality predicts from its summaries (M, B, D) alone."""
    return torch.baddbmm(parts.get_parameter("bias").unsqueeze(1), summaries, parts.get_parameter("weight"))
