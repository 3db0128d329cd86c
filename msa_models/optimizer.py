"""The optimiser of a network: its parameter groups, their learning rates, and one update.

M modalities.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from msa_models.config import Plateau, RateSchedule, TrainingConfig
from msa_models.network import Network
from msa_models.seams import Progress
from msa_models.text.finetune import MODALITY


def optimizer_of(network: Network) -> torch.optim.Optimizer:
    """The optimiser that the network's training asks for.

    It has one group for everything above the boundary, then one for each encoder, in modality order. An encoder may
    have a learning rate and a weight decay of its own; a model that is fine-tuned has groups of its own. `modality` is
    whose step a group belongs to, `highest` the learning rate that schedule and `warmup` start from.
    """
    below = ("encoders.", "text.")
    above = [parameter for name, parameter in network.named_parameters() if not name.startswith(below)]
    groups: list[dict[str, Any]] = [{"params": above, "modality": None}]
    for name, each in network.encoders.items():
        own = network.spec.encoder.of(name)
        said = {"lr": own.learning_rate, "weight_decay": own.weight_decay}
        said = {key: value for key, value in said.items() if value is not None}
        groups.append({"params": list(each.parameters()), "modality": name, **said})
    if network.text is not None:
        groups += [group | {"modality": MODALITY} for group in network.text.groups()]
    settings = network.spec.training
    for group in groups:
        group["highest"] = group.setdefault("lr", settings.learning_rate)
        group.setdefault("warmup", settings.warmup)
    decay = settings.weight_decay
    match settings.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(groups, weight_decay=decay, fused=True)
        case "sgd":  # not fused, which fails where some weights of a group have had gradients before and others not
            return torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=decay, foreach=True)


def set_rates(optimizer: torch.optim.Optimizer, settings: TrainingConfig, progress: Progress) -> None:
    """Set the learning rates of a step: a function of where training is, so that nothing need be remembered."""
    for group in optimizer.param_groups:
        group["lr"] = rate(group, settings, progress)


def rate(group: Mapping[str, Any], settings: TrainingConfig, progress: Progress) -> float:
    """The learning rate of a group in a step."""
    left = decay(settings.schedule, settings.plateau, progress, group["warmup"])
    return group["highest"] * left * progress.rise(group["warmup"])


def decay(schedule: RateSchedule, plateau: Plateau, progress: Progress, warmup: float) -> float:
    """The share of the highest rate that a schedule leaves in a step, see `SCHEDULES`, before it rises.

    A linear one is 1 up to the first step after a share `warmup` of all, and would be 0 after the last. A plateau
    leaves `factor` to the power of how often it has lowered the rates.
    """
    match schedule:
        case "constant":
            return 1.0
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress.epoch / progress.epochs))
        case "linear":
            total = progress.epochs * progress.steps
            left = total - (progress.epoch * progress.steps + progress.step)
            return min(1.0, left / (total * (1 - warmup)))
        case "plateau":
            return plateau.factor**progress.reductions


def update(optimizer: torch.optim.Optimizer, scale: torch.Tensor | None, modalities: Sequence[str]) -> None:
    """One step of the optimiser; `scale` (M,), if any, scales the step of each modality's encoder."""
    if scale is None:
        optimizer.step()
        return
    scales = dict(zip(modalities, scale.tolist(), strict=True))
    groups = optimizer.param_groups
    rates = [group["lr"] for group in groups]
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate * scales.get(group["modality"], 1.0)
    optimizer.step()
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
