"""Specs of models that are trained together: what they have in common, and the numbers in which they differ.

S models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Self

import numpy as np

from msa_models.config import EncoderConfig, ModalityEncoder, Plateau
from msa_models.lazy import torch
from msa_models.seams import Component
from msa_models.spec import Spec


class Varied:
    """A number of each of the models; in an equation it stands where otherwise a plain number stands.

    What it meets there has the models as its first axis.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self.values = tuple(values)

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | float:
        """The number itself where they all have the same."""
        return values[0] if len(set(values)) == 1 else cls(values)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        tensors = [each for each in args if isinstance(each, torch.Tensor)]
        axes = max(each.dim() for each in tensors)
        kind = next((each for each in tensors if each.is_floating_point()), tensors[0].float())

        def met(value: Any) -> Any:
            return kind.new_tensor(value.values).view(-1, *[1] * (axes - 1)) if isinstance(value, Varied) else value

        return function(*map(met, args), **{name: met(value) for name, value in (kwargs or {}).items()})

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arrays = [each for each in inputs if isinstance(each, np.ndarray)]
        axes, kind = max(each.ndim for each in arrays), np.result_type(*arrays, np.float32)

        def met(value: Any) -> Any:
            return np.array(value.values, kind).reshape(-1, *[1] * (axes - 1)) if isinstance(value, Varied) else value

        return getattr(ufunc, method)(*map(met, inputs), **kwargs)

    def __mul__(self, other: Any) -> Any:
        return self._with(other, torch.mul, np.multiply)

    def __rmul__(self, other: Any) -> Any:
        return self._with(other, torch.mul, np.multiply)

    def __truediv__(self, other: Any) -> Any:
        return self._with(other, torch.div, np.divide)

    def __rsub__(self, other: float) -> Any:
        return Varied([other - each for each in self.values])

    def __neg__(self) -> Any:
        return Varied([-each for each in self.values])

    def __pow__(self, other: Any) -> Any:
        return self._with(other, torch.pow, np.power)

    def _with(self, other: Any, of_tensors: Callable[..., Any], of_arrays: Callable[..., Any]) -> Any:
        if isinstance(other, torch.Tensor):
            return of_tensors(self, other)
        if isinstance(other, np.ndarray):
            return of_arrays(self, other)
        return Varied([float(of_arrays(each, other)) for each in self.values])


def joined(specs: Sequence[Spec]) -> Spec:
    """One spec of all models, where numbers of components that differ are `Varied`.

    Of encoders and training it has the first one's: what differs there is in modules and optimisers of each model.
    """
    return _of_components(specs[0], lambda component: _joined([_same(spec, component.name) for spec in specs]))


def likeness(spec: Spec) -> Spec:
    """What specs have in common whose models can be trained together: all but the numbers that may differ."""
    training = replace(
        spec.training,
        learning_rate=1.0,
        weight_decay=0.0,
        warmup=0.0,
        schedule="constant",
        plateau=Plateau(),
        patience=None,
        modality_dropout=0.0,
    )
    alike = _of_components(spec, lambda component: replace(component, **_defaults(component)))
    return replace(alike, encoder=_of_encoders(spec.encoder), training=training)


def _of_components(spec: Spec, made: Callable[[Component], Any]) -> Spec:
    terms, shared = ({name: made(each) for name, each in found.items()} for found in (spec.terms, spec.shared))
    single = {name: made(getattr(spec, name)) for name in ("refinement", "fusion", "modulator", "schedule")}
    return replace(spec, terms=terms, shared=shared, **single)


def _same(spec: Spec, name: str) -> Component:
    return next(each for each in spec.components if each.name == name)


def _joined(components: Sequence[Component]) -> Component:
    first = components[0]
    numbers = {name: Varied.of([getattr(each, name) for each in components]) for name in first.varies}
    return replace(first, **numbers)


def _defaults(component: Component) -> dict[str, Any]:
    return {field.name: field.default for field in fields(component) if field.name in component.varies}


def _of_encoders(config: EncoderConfig) -> EncoderConfig:
    nothing: dict[str, Any] = {"learning_rate": None, "weight_decay": None}
    own = {
        each.name: replace(value, dropout=None, input_dropout=None, **nothing)
        for each in fields(config)
        if isinstance(value := getattr(config, each.name), ModalityEncoder)
    }
    return replace(config, dropout=0.0, input_dropout=0.0, **nothing, **own)
