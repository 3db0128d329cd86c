"""One optimiser step across the representation boundary.

The losses are differentiated with respect to the representations H_m, per loss group; the modulator changes these
gradients; then ONE backward pass runs through the encoders, however many losses and modulators there are. All of it
counts axes from the end, so that `msa_models.fused` takes it for several models at once.
"""

import math
from collections.abc import Mapping

import torch

from msa_models import optimizer
from msa_models.batch import Batch
from msa_models.displacement import Displacement
from msa_models.network import Network, cut
from msa_models.representations import TASK, Forward, Gradients, Modulation, Representations
from msa_models.seams import Progress, Unmodulated


class NonFiniteLoss(ArithmeticError):
    """A loss or a prediction is NaN or infinite; the message names epoch, step and term."""


class Step:
    """Steps of one network with its optimiser: `take` one with each batch."""

    def __init__(self, network: Network) -> None:
        self._network, self._spec = network, network.spec
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = optimizer.optimizer_of(network)
        modulator = network.spec.modulator
        balanced = not isinstance(modulator, Unmodulated)
        self.displacement = Displacement(self.optimizer, network.spec.training.gradient_clip) if balanced else None
        terms = {name: term.group for name, term in network.spec.terms.items()}
        self.loss_groups = {"task": TASK, **terms, modulator.name: modulator.group}
        self._gathered, self._scale = 0, None  # samples, and scale of the update, of a step that is not complete

    def take(
        self, batch: Batch, progress: Progress, *, modulated: bool = True, of: int | None = None
    ) -> dict[str, torch.Tensor]:
        """One step; returns what is averaged over the batches of an epoch that have it. Raises NonFiniteLoss.

        With `of`, the batch is a part of a step of so many samples, and the optimiser acts once they are complete.
        Unless `modulated`, gradients are left as they are.
        """
        if self._gathered == 0:
            self._begin(progress)
        of = len(batch) if of is None else of
        share = len(batch) / of
        batch = self._network.read(batch)
        hidden = self._network.encode(batch)
        leaves = cut(hidden)
        forward = self._network.decide(batch, leaves)
        losses = self._network.losses(forward)
        objective = torch.stack(list(losses.values())).sum(0).detach()
        self._check(objective, losses, progress)
        gradients = self._differentiated(losses, leaves, share)
        with torch.no_grad():
            modulation = self._balanced(gradients, forward, progress, modulated)
        modalities = list(hidden)
        torch.autograd.backward(
            [hidden[modality].hidden for modality in modalities],
            [_weighted(modulation.gradients[modality], share) for modality in modalities],
        )
        if self.displacement is not None:
            self.displacement.gather(modulation.gradients, gradients.total(), leaves, share)
        complete = self._gather(len(batch), of, modulation.step_scale)
        weighted = {f"train/{term}": loss.detach() for term, loss in losses.items()}
        with torch.no_grad():
            logged = {**_shares(gradients), **modulation.log}
        if self.displacement is not None and complete and progress.ends:
            logged["displacement"] = self.displacement.tell()
        balanced = {f"{self._spec.modulator.name}/{quantity}": value for quantity, value in logged.items()}
        return {"train/objective": objective, **weighted, **forward.log, **balanced}

    def _begin(self, progress: Progress) -> None:
        optimizer.set_rates(self.optimizer, self._spec.training, progress)
        self.optimizer.zero_grad()

    def _check(self, objective: torch.Tensor, losses: Mapping[str, torch.Tensor], progress: Progress) -> None:
        if not math.isfinite(objective.item()):
            raise NonFiniteLoss(blame(losses, progress))

    def _balanced(self, gradients: Gradients, forward: Forward, progress: Progress, modulated: bool) -> Modulation:
        modulator = self._spec.modulator
        rule = modulator if modulated else Unmodulated()
        return rule.balance(self._network.parts[modulator.name], gradients, forward, progress)

    def _update(self, scale: torch.Tensor | None) -> torch.Tensor | None:
        """The optimiser acts; returns the length of all gradients before they were clipped, if they are."""
        limit, norm = self._spec.training.gradient_clip, None
        if limit is not None:
            norm = torch.nn.utils.clip_grad_norm_(self._parameters, limit, foreach=True)
        optimizer.update(self.optimizer, scale, list(self._network.encoders))
        return norm

    def _gather(self, num_samples: int, of: int, scale: torch.Tensor | None) -> bool:
        """Count the samples of a step; the optimiser acts when it has all, scaled as the mean over them.

        Returns whether it has.
        """
        self._gathered += num_samples
        if scale is not None:
            part = _weighted(scale, num_samples / of)
            self._scale = part if self._scale is None else self._scale + part
        if self._gathered < of:
            return False
        norm = self._update(self._scale)
        if self.displacement is not None:
            self.displacement.step(self._scale, norm)
        self._gathered, self._scale = 0, None
        return True

    def _differentiated(self, losses: dict[str, torch.Tensor], leaves: Representations, share: float) -> Gradients:
        """The losses with respect to the representations, one backward pass per group.

        What lies above the boundary collects its gradients on the way, as this share of those of a step.
        """
        groups: dict[str, torch.Tensor] = {}
        for name, loss in losses.items():
            group = self.loss_groups[name]
            groups[group] = groups[group] + loss if group in groups else loss
        gradients: dict[str, dict[str, torch.Tensor]] = {}
        for index, (group, loss) in enumerate(groups.items()):
            _weighted(loss, share).sum().backward(retain_graph=index + 1 < len(groups))
            gradients[group] = {
                modality: _weighted(_taken(leaf.hidden), 1 / share) for modality, leaf in leaves.items()
            }
        return Gradients(gradients)


def _weighted(values: torch.Tensor, share: float) -> torch.Tensor:
    """The values times a share; those themselves where a batch is a whole step."""
    return values if share == 1.0 else values * share


def _taken(leaf: torch.Tensor) -> torch.Tensor:
    """The gradient that a leaf has collected, which is cleared; zeros where the loss does not depend on the leaf."""
    gradient, leaf.grad = leaf.grad, None
    return torch.zeros_like(leaf) if gradient is None else gradient


def _shares(gradients: Gradients) -> dict[str, torch.Tensor]:
    """What is logged of the gradients of every method, before modulation, so that methods can be compared.

    `gradient_share`: g_m / sum_n g_n; `conflict_rate`: whether g_m > 2 g_n for some n. The factor 2 is ours, and the
    default threshold of the conflict penalty, which logs conflicts by its own threshold instead.
    """
    magnitudes = gradients.magnitudes
    share = magnitudes / magnitudes.sum(-1, keepdim=True).clamp_min(torch.finfo(magnitudes.dtype).tiny)
    conflicts = magnitudes > 2.0 * magnitudes.amin(-1, keepdim=True)
    return {"gradient_share": share, "conflict_rate": conflicts.to(magnitudes)}


def blame(losses: Mapping[str, torch.Tensor], progress: Progress) -> str:
    """What a non-finite loss is due to, in a line; `losses` are those of one model."""
    guilty = {name: loss.item() for name, loss in losses.items() if not math.isfinite(loss.item())}
    terms = ", ".join(f"'{name}' is {value}" for name, value in guilty.items()) or "the sum of all terms overflows"
    where = f"epoch {progress.epoch + 1}, step {progress.step + 1}"
    return f"non-finite loss at {where}: {terms}; try a smaller learning rate or weight"
