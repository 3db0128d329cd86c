"""One optimiser step of several models at once.

S models, M modalities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from msa_models import optimizer, snapshot
from msa_models.displacement import Displacement
from msa_models.fused.network import StackedBatch, StackedNetwork
from msa_models.fused.optimizer import StackedOptimizer
from msa_models.representations import Forward, Gradients, Modulation
from msa_models.seams import Progress
from msa_models.step import NonFiniteLoss, Step, blame
from msa_models.training import Training


class Failed(Exception):
    """Some models have a loss that is not finite."""

    def __init__(self, faults: Mapping[int, NonFiniteLoss]) -> None:
        super().__init__(str(next(iter(faults.values()))))
        self.faults = faults


class FusedStep(Step):
    """Steps of all models at once."""

    def __init__(self, trainings: Sequence[Training], generators: Sequence[torch.Generator]) -> None:
        networks, own = [each.network for each in trainings], [each.step for each in trainings]
        self.network = self._network = StackedNetwork(networks, generators)
        self._spec, self.loss_groups = self.network.spec, own[0].loss_groups
        self._settings = [each.spec.training for each in trainings]
        self._gathered, self._scale = 0, None
        optimizers = [each.optimizer for each in own]
        self._stacked = StackedOptimizer(self.network, networks, optimizers)
        self.optimizer, self.displacement = self._stacked.optimizer, None
        displacements = [each.displacement for each in own if each.displacement is not None]
        if displacements:
            self.displacement = Displacement(optimizers[0], self._spec.training.gradient_clip)
            stacked = _stacked_displacement([each.state for each in displacements])
            self.displacement.restore(stacked, trainings[0].device)
        self._progress: Sequence[Progress] = ()
        self._modulated: Sequence[bool] = ()
        self.silent: dict[str, set[int]] = {}  # which models did not log what in the last step

    def take_all(
        self, batch: StackedBatch, progress: Sequence[Progress], modulated: Sequence[bool], of: int
    ) -> dict[str, torch.Tensor]:
        """As `take`, of each model; what is logged is 0 where a model is `silent` about it. Raises Failed."""
        self._progress, self._modulated, self.silent = progress, modulated, {}
        return self.take(batch, progress[0], of=of)

    def give_back(self, trainings: Sequence[Training]) -> None:
        """Let the trainings have what they have become."""
        state = None if self.displacement is None else self.displacement.state
        with torch.no_grad():
            for model, training in enumerate(trainings):
                for name, parameter in training.network.named_parameters():
                    parameter.copy_(self.network.parameters_of[name][model])
                for name, buffer in training.network.named_buffers():
                    if name in self.network.buffers_of:
                        buffer.copy_(self.network.buffers_of[name][model])
                if state is not None and training.step.displacement is not None:
                    own = {name: value[model] if value.dim() else value for name, value in state.items()}
                    training.step.displacement.restore(snapshot.copied(own, training.device), training.device)
        self._stacked.give_back([training.step.optimizer for training in trainings])

    def _begin(self, progress: Progress) -> None:
        self.optimizer.zero_grad()

    def _check(self, objective: torch.Tensor, losses: Mapping[str, torch.Tensor], progress: Progress) -> None:
        faults = {
            model: NonFiniteLoss(blame({name: loss[model] for name, loss in losses.items()}, progress))
            for model, value in enumerate(objective.tolist())
            if not math.isfinite(value)
        }
        if faults:
            raise Failed(faults)

    def _balanced(self, gradients: Gradients, forward: Forward, progress: Progress, modulated: bool) -> Modulation:
        """Where rules of some models are at another place of their work, each place in turn for its models alone."""
        places = [(on, each.active) for on, each in zip(self._modulated, self._progress, strict=True)]
        seeds = tuple(seed for each in self._progress for seed in each.seeds)
        found: dict[tuple[bool, int], Modulation] = {}
        parts = self.network.parts[self._spec.modulator.name]
        for place in dict.fromkeys(places):
            on, active = place
            others = [model for model, each in enumerate(places) if each != place]
            before = {name: buffer[others] for name, buffer in _remembered(parts).items()} if others else {}
            found[place] = super()._balanced(gradients, forward, replace(progress, active=active, seeds=seeds), on)
            for name, buffer in _remembered(parts).items() if others else ():
                buffer[others] = before[name]
        if len(found) == 1:
            return found[places[0]]
        return self._joined([found[place] for place in places])

    def _joined(self, each: Sequence[Modulation]) -> Modulation:
        """One modulation whose models are each taken from its own."""
        gradients = {
            name: torch.stack([one.gradients[name][model] for model, one in enumerate(each)])
            for name in each[0].gradients
        }
        scale = None
        if (known := next((one.step_scale for one in each if one.step_scale is not None), None)) is not None:
            ones = torch.ones_like(known)
            scale = torch.stack([(ones if one.step_scale is None else one.step_scale)[m] for m, one in enumerate(each)])
        log: dict[str, torch.Tensor] = {}
        for name in dict.fromkeys(name for one in each for name in one.log):
            known = next(one.log[name] for one in each if name in one.log)
            log[name] = torch.stack([one.log.get(name, torch.zeros_like(known))[m] for m, one in enumerate(each)])
            silent = {model for model, one in enumerate(each) if name not in one.log}
            if silent:
                self.silent[f"{self._spec.modulator.name}/{name}"] = silent
        return Modulation(gradients=gradients, step_scale=scale, log=log)

    def _update(self, scale: torch.Tensor | None) -> torch.Tensor | None:
        self.network.collect()
        limit = self._spec.training.gradient_clip
        norm = None if limit is None else self._clip(limit)
        rates = [
            torch.tensor(
                [
                    optimizer.rate(group, settings, progress)
                    for group, settings, progress in zip(groups, self._settings, self._progress, strict=True)
                ],
                dtype=torch.float64,
            )
            for groups in self._stacked.own
        ]
        scales = {} if scale is None else dict(zip(self.network.encoders, scale.unbind(-1), strict=True))
        self._stacked.step(rates, scales)
        return norm

    def _clip(self, limit: float) -> torch.Tensor:
        """Clip the gradients of each model to a length, as `torch.nn.utils.clip_grad_norm_`; their lengths (S,)."""
        gradients = [each.grad for each in self.network.parameters_of.values() if each.grad is not None]
        rows = [gradient.reshape(len(gradient), -1) for gradient in gradients]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(row, dim=1) for row in rows]), dim=0)
        factor = (limit / (norm + 1e-6)).clamp_max(1.0)
        for gradient in gradients:
            gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))
        return norm


def _remembered(parts: nn.Module) -> dict[str, torch.Tensor]:
    """What a rule remembers of each model."""
    learned = {name for name, _ in parts.named_parameters()}
    return {name: buffer for name, buffer in parts.state_dict().items() if name not in learned}


def _stacked_displacement(each: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {
        name: torch.stack([state[name] for state in each]) if name != "steps" else first
        for name, first in each[0].items()
    }
