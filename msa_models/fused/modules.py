"""Modules of several models of one shape as one: a linear layer becomes a batched matrix product.

That costs little more than one of them where models are small. What is made here are copies.

S models, B batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Generators = Sequence[torch.Generator]


class Stacker:
    """Makes one module of those of all models; buffers that are not saved are constants, the same in all."""

    def __init__(
        self, parameters: dict[str, nn.Parameter], buffers: dict[str, torch.Tensor], generators: Generators
    ) -> None:
        self._parameters, self._buffers, self._generators = parameters, buffers, generators

    def stacked(self, modules: Sequence[nn.Module], name: str) -> nn.Module:
        first = modules[0]
        if isinstance(first, nn.Dropout):
            return _Dropout([module.p for module in modules if isinstance(module, nn.Dropout)], self._generators)
        kind = _STACKED.get(type(first))
        assert not is_opaque(first), f"no stacked form of {type(first).__name__}"
        whole = copy.copy(first) if kind is None else kind(first)
        whole._modules = {
            each: self.stacked([module._modules[each] for module in modules], f"{name}.{each}")  # pyright: ignore
            for each in first._modules
        }
        whole._parameters = {each: self._parameter(modules, each, f"{name}.{each}") for each in first._parameters}
        whole._buffers = {each: self._buffer(modules, each, f"{name}.{each}") for each in first._buffers}
        return whole

    def _parameter(self, modules: Sequence[nn.Module], name: str, path: str) -> nn.Parameter | None:
        if modules[0]._parameters[name] is None:
            return None
        own = [module.get_parameter(name) for module in modules]
        self._parameters[path] = nn.Parameter(torch.stack([each.detach() for each in own]), own[0].requires_grad)
        return self._parameters[path]

    def _buffer(self, modules: Sequence[nn.Module], name: str, path: str) -> torch.Tensor:
        if name in modules[0]._non_persistent_buffers_set:
            return modules[0].get_buffer(name)
        self._buffers[path] = torch.stack([module.get_buffer(name) for module in modules])
        return self._buffers[path]


class _Linear(nn.Module):
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, alone: nn.Linear) -> None:
        super().__init__()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows, weight = inputs.flatten(1, -2) if inputs.dim() > 3 else inputs, self.weight.mT
        products = torch.bmm(rows, weight) if self.bias is None else torch.baddbmm(self.bias.unsqueeze(1), rows, weight)
        return products if inputs.dim() == 3 else products.view(*inputs.shape[:-1], -1)


class _Norm(nn.Module):
    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, alone: nn.LayerNorm) -> None:
        super().__init__()
        self._shape, self._eps = alone.normalized_shape, alone.eps

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        normed, ones = functional.layer_norm(inputs, self._shape, eps=self._eps), [1] * (inputs.dim() - 2)
        shape = (len(inputs), *ones, -1)
        return torch.addcmul(self.bias.view(shape), normed, self.weight.view(shape))


class _Dropout(nn.Module):
    def __init__(self, probabilities: Sequence[float], generators: Generators) -> None:
        super().__init__()
        self._probabilities, self._generators = probabilities, generators

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if not self.training or not any(self._probabilities):
            return inputs
        stays = torch.empty_like(inputs)
        for own, generator, probability in zip(stays, self._generators, self._probabilities, strict=True):
            if probability:
                own.bernoulli_(1.0 - probability, generator=generator).div_(1.0 - probability)
            else:
                own.fill_(1.0)
        return inputs * stays


_STACKED: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {nn.Linear: _Linear, nn.LayerNorm: _Norm}


def is_opaque(module: nn.Module) -> bool:
    """Whether it computes with tensors of its own in a way that has no stacked form here."""
    computes = type(module).forward is not nn.Module.forward
    return computes and type(module) not in _STACKED and bool(module._parameters or module._buffers)
