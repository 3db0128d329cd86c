"""The optimisers of several models as one.

S models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from msa_models.fused.network import StackedNetwork
from msa_models.network import Network


class StackedOptimizer:
    """One optimiser for the stacked parameters, with what those of the models remember.

    Of all optimisers here a step is proportional to the learning rate and its memory independent of it. So where models
    have different rates, a step of the largest is taken, and each model goes its own share of it.
    """

    def __init__(
        self, network: StackedNetwork, networks: Sequence[Network], own: Sequence[torch.optim.Optimizer]
    ) -> None:
        names = {id(parameter): name for name, parameter in networks[0].named_parameters()}
        self._groups = [
            [network.parameters_of[names[id(parameter)]] for parameter in group["params"]]
            for group in own[0].param_groups
        ]
        kind: Any = type(own[0])
        self.own = [[each.param_groups[number] for each in own] for number in range(len(self._groups))]
        self._decays = [[group["weight_decay"] for group in groups] for groups in self.own]
        pairs = zip(own[0].param_groups, self._groups, self._decays, strict=True)
        self.optimizer: torch.optim.Optimizer = kind(
            [
                {**group, "params": stacked, "weight_decay": decays[0] if len(set(decays)) == 1 else 0.0}
                for group, stacked, decays in pairs
            ]
        )
        for stacked, parameters in self._with_those_of(own):
            states = [optimizer.state.get(each, {}) for optimizer, each in zip(own, parameters, strict=True)]
            if states[0]:
                self.optimizer.state[stacked] = _stacked_state(states)

    def step(self, rates: Sequence[torch.Tensor], scale: Mapping[str, torch.Tensor]) -> None:
        """One step, with the rate (S,) of each group, of which `scale` (S,) of a modality leaves a share."""
        before: list[tuple[nn.Parameter, torch.Tensor, torch.Tensor]] = []
        for group, rate, decays in zip(self.optimizer.param_groups, rates, self._decays, strict=True):
            group["lr"] = largest = float(rate.max())
            share = rate / largest if bool((rate != largest).any()) else None
            if group["modality"] in scale:
                share = scale[group["modality"]] if share is None else share * scale[group["modality"]]
            moving = [each for each in group["params"] if each.grad is not None]
            if len(set(decays)) > 1:
                self._decay(moving, torch.tensor(decays), rate if share is None else largest * share)
            if share is not None:
                before += [(each, each.detach().clone(), share) for each in moving]
        self.optimizer.step()
        with torch.no_grad():
            for parameter, was, share in before:
                parameter.copy_(torch.lerp(was, parameter, _beside(share, was).expand_as(was)))

    def _decay(self, parameters: Sequence[nn.Parameter], decays: torch.Tensor, rates: torch.Tensor) -> None:
        """The decay (S,) of models that differ in it: of AdamW taken from the weights, else added to the gradients."""
        with torch.no_grad():
            for each in parameters:
                assert each.grad is not None
                if isinstance(self.optimizer, torch.optim.AdamW):
                    each.mul_(_beside(1.0 - rates * decays.to(rates), each))
                else:
                    each.grad.addcmul_(each, _beside(decays, each))

    def give_back(self, own: Sequence[torch.optim.Optimizer]) -> None:
        """Let the models' own optimisers remember what this one does."""
        for stacked, parameters in self._with_those_of(own):
            known = {key: value for key, value in self.optimizer.state.get(stacked, {}).items() if value is not None}
            for model, (optimizer, parameter) in enumerate(zip(own, parameters, strict=True) if known else ()):
                optimizer.state[parameter] = {
                    key: value[model].clone() if value.dim() else value.clone() for key, value in known.items()
                }

    def _with_those_of(
        self, own: Sequence[torch.optim.Optimizer]
    ) -> Iterator[tuple[nn.Parameter, Sequence[torch.Tensor]]]:
        """Each stacked parameter with those of the models."""
        for number, group in enumerate(self._groups):
            yield from zip(group, zip(*(each.param_groups[number]["params"] for each in own), strict=True), strict=True)


def _stacked_state(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What optimisers remember of one parameter; how many steps they have taken is one number for all."""
    return {
        key: torch.stack([state[key] for state in states]) if value.dim() else value.clone()
        for key, value in states[0].items()
        if value is not None
    }


def _beside(numbers: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Numbers (S,) in the shape in which they meet a parameter (S, …)."""
    return numbers.to(parameter).view(-1, *[1] * (parameter.dim() - 1))
