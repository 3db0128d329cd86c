"""One optimiser step across the representation boundary.

The losses are differentiated with respect to the representations H_m, per loss group; the modulator changes these
gradients; then ONE backward pass runs through the encoders, however many losses and modulators there are.
"""

import math

import torch

from msa_models.batch import Batch
from msa_models.blueprint import Blueprint
from msa_models.network import Network, cut
from msa_models.seams import Forward, Modulation, Representations


class NonFiniteLoss(ArithmeticError):
    """A loss or a prediction is NaN or infinite; the message names epoch, step and term."""


class Step:
    """Steps of one network with its optimiser: `begin` each epoch, then `take` one with each batch."""

    def __init__(self, network: Network) -> None:
        self._network, self._blueprint = network, network.blueprint
        self._parameters = list(network.parameters())
        self.optimizer = _optimizer(network, network.blueprint)

    def begin(self, epoch: int) -> None:
        """Set the learning rate of an epoch (from 0), which the schedule makes a function of it."""
        settings = self._blueprint.training
        decay = 1.0 if settings.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * decay

    def take(self, batch: Batch, epoch: int, step: int) -> dict[str, torch.Tensor]:
        """One step; returns what is averaged over the epoch. Raises NonFiniteLoss."""
        self.optimizer.zero_grad()
        hidden = self._network.encode(batch)
        leaves = cut(hidden)
        forward = self._network.decide(batch, leaves)
        losses = self._network.losses(forward)
        objective = torch.stack(list(losses.values())).sum().detach()
        if not math.isfinite(objective.item()):
            raise NonFiniteLoss(_blame(losses, epoch, step))
        modulation = self._balance(losses, leaves, forward, epoch)
        modalities = list(hidden)
        torch.autograd.backward(
            [hidden[modality].hidden for modality in modalities],
            [modulation.gradients[modality] for modality in modalities],
        )
        if self._blueprint.training.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._blueprint.training.gradient_clip, foreach=True)
        self._update(modulation)
        log = {"train/objective": objective} | {f"train/{name}": loss.detach() for name, loss in losses.items()}
        return log | {f"{self._blueprint.modulator.name}/{name}": value for name, value in modulation.log.items()}

    def _balance(
        self, losses: dict[str, torch.Tensor], leaves: Representations, forward: Forward, epoch: int
    ) -> Modulation:
        """Gradients at the boundary, per loss group and modality, as the modulator wants them.

        Everything above the boundary collects its gradients on the way.
        """
        groups: dict[str, torch.Tensor] = {}
        for name, loss in losses.items():
            group = "task" if name == "task" else self._blueprint.terms[name].group
            groups[group] = groups[group] + loss if group in groups else loss
        gradients: dict[str, dict[str, torch.Tensor]] = {}
        for index, (group, loss) in enumerate(groups.items()):
            loss.backward(retain_graph=index + 1 < len(groups))
            gradients[group] = {modality: _taken(leaf.hidden) for modality, leaf in leaves.items()}
        modulator = self._blueprint.modulator
        progress = epoch / self._blueprint.training.epochs
        with torch.no_grad():
            return modulator.balance(self._network.parts[modulator.name], gradients, forward, progress)

    def _update(self, modulation: Modulation) -> None:
        if modulation.step_scale is None:
            self.optimizer.step()
            return
        encoder_groups = self.optimizer.param_groups[1:]
        rates = [group["lr"] for group in encoder_groups]
        for group, rate, scale in zip(encoder_groups, rates, modulation.step_scale.tolist(), strict=True):
            group["lr"] = rate * scale
        self.optimizer.step()
        for group, rate in zip(encoder_groups, rates, strict=True):
            group["lr"] = rate


def _optimizer(network: Network, blueprint: Blueprint) -> torch.optim.Optimizer:
    """AdamW with one group for everything above the boundary, then one for each encoder, in modality order."""
    above = [parameter for name, parameter in network.named_parameters() if not name.startswith("encoders.")]
    groups = [above, *(list(encoder.parameters()) for encoder in network.encoders.values())]
    settings = blueprint.training
    return torch.optim.AdamW(
        [{"params": group} for group in groups],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def _taken(leaf: torch.Tensor) -> torch.Tensor:
    """The gradient a leaf has collected, which it then forgets; zeros where a loss does not depend on it."""
    gradient, leaf.grad = leaf.grad, None
    return torch.zeros_like(leaf) if gradient is None else gradient


def _blame(losses: dict[str, torch.Tensor], epoch: int, step: int) -> str:
    guilty = {name: loss.item() for name, loss in losses.items() if not math.isfinite(loss.item())}
    terms = ", ".join(f"'{name}' is {value}" for name, value in guilty.items()) or "the sum of all terms overflows"
    return f"non-finite loss at epoch {epoch + 1}, step {step + 1}: {terms}; try a smaller learning rate or weight"
