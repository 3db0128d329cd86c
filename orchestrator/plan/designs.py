"""The designs of an ablation: which changes to the full method they try, and what they compare to find out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np

from search_spaces import schema
from search_spaces.ablation import ALL, Ablation, Factorial
from search_spaces.faults import Fault, did_you_mean, listed

FULL = "full"
AGAIN = "full, again"  # the control
Comparison = Literal["full", "step", "main effect", "interaction"]


@dataclass(frozen=True, kw_only=True)
class Alteration:
    """What a cell has otherwise than the full method, named by its design; nothing at all is the full method itself."""

    removed: tuple[str, ...] = ()  # components, in the order of the method
    swapped: tuple[str, str] | None = None  # a component, and the one that takes its place
    modalities: tuple[str, ...] | None = None
    setting: tuple[str, str] | None = None  # a path on the configuration, and its value as JSON, where 1 is not true

    @property
    def change(self) -> schema.Change:
        """The same in the terms of an experiment."""
        fixed: dict[str, Any] = dict.fromkeys(self.removed)
        if self.setting:
            fixed[self.setting[0]] = json.loads(self.setting[1])
        return schema.Change(
            swap=dict([self.swapped] if self.swapped else []), config=fixed, modalities=self.modalities
        )

    @property
    def setting_text(self) -> str:
        """`transport.epsilon=0.1`, or nothing."""
        if self.setting is None:
            return ""
        path, value = self.setting
        return f"{path}={value.strip(chr(34))}"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A comparison of cells: seed by seed their weighted sum, by the names of the cells."""

    comparison: Comparison
    name: str
    weights: Mapping[str, float]


@dataclass(kw_only=True)
class Layout:
    """The changes of all designs by name, each once, with the designs that want it and where they were asked for."""

    components: tuple[str, ...]  # that the full method has
    modalities: tuple[str, ...]  # that it uses
    alterations: dict[str, Alteration] = field(default_factory=lambda: {FULL: Alteration()})
    designs: dict[str, list[str]] = field(default_factory=lambda: {FULL: []})
    origins: dict[str, str] = field(default_factory=lambda: {FULL: ""})
    contrasts: list[Contrast] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def add(self, alteration: Alteration, design: str, origin: str, name: str = "") -> str:
        """The name of the alteration: the one that it has already, or the one given, or one that says what it is."""
        known = next((name for name, other in self.alterations.items() if other == alteration), None)
        name = known or name or self._name(alteration)
        assert self.alterations.get(name, alteration) == alteration, name
        self.alterations[name] = alteration
        self.origins.setdefault(name, origin)
        if design not in (designs := self.designs.setdefault(name, [])):
            designs.append(design)
        return name

    def named(self, names: Sequence[str], path: str, known: Sequence[str], nouns: str) -> list[str]:
        """The names that are known, in their order."""
        for index, name in enumerate(names):
            if name not in known:
                message = f"no {nouns} {name!r} in the full method; it has {listed(known)}{did_you_mean(name, known)}"
                self.faults.append(Fault(path=f"{path}.{index}", message=message))
        return [name for name in names if name in known]

    def without(self, names: Sequence[str]) -> Alteration:
        """The full method without these components and modalities."""
        kept = tuple(name for name in self.modalities if name not in names)
        removed = tuple(name for name in self.components if name in names)
        return Alteration(removed=removed, modalities=None if kept == self.modalities else kept)

    def _name(self, alteration: Alteration) -> str:
        if alteration == Alteration():
            return FULL
        if alteration.removed:
            return "base" if alteration.removed == self.components else f"without {', '.join(alteration.removed)}"
        if alteration.swapped:
            return f"{alteration.swapped[1]} for {alteration.swapped[0]}"
        return f"only {'+'.join(alteration.modalities)}" if alteration.modalities else alteration.setting_text


def layout(ablation: Ablation, components: Sequence[str], modalities: Sequence[str]) -> Layout:
    """Every change that the designs ask for, on a method with these components; faults are gathered, not raised."""
    found = Layout(components=tuple(components), modalities=tuple(modalities))
    for design in ablation.designs:
        _DESIGNS[design](found, ablation)
    changed = [name for name in found.alterations if name != FULL]
    full = [Contrast(comparison="full", name=name, weights={name: 1.0, FULL: -1.0}) for name in changed]
    found.contrasts[:0] = full
    return found


def _leave_one_out(found: Layout, ablation: Ablation) -> None:
    path, known = "ablation.leave_one_out", (*found.components, *found.modalities)
    for name in _all_or(found, ablation.leave_one_out or (ALL,), path, known, "component or modality"):
        if found.modalities == (name,):
            found.faults.append(Fault(path=path, message=f"{name} is the only modality; nothing is left without it"))
        else:
            found.add(found.without([name]), "leave_one_out", path, f"without {name}")


def _additive(found: Layout, ablation: Ablation) -> None:
    path = "ablation.additive"
    names = _all_or(found, ablation.additive or (), path, found.components, "component")
    whole = set(names) == set(found.components)  # then what is there is shorter than what is not
    before = found.add(found.without(names), "additive", path, "base" if whole else "")
    for number, name in enumerate(names, start=1):
        called = " + ".join(("base", *names[:number])) if whole and number < len(names) else ""
        after = found.add(found.without(names[number:]), "additive", path, called)
        found.contrasts.append(Contrast(comparison="step", name=f"+ {name}", weights={after: 1.0, before: -1.0}))
        before = after


def _factorial(found: Layout, ablation: Ablation) -> None:
    assert ablation.factorial is not None
    path = "ablation.factorial.components"
    factors = found.named(ablation.factorial.components, path, found.components, "component")
    if len(factors) < len(ablation.factorial.components):
        return
    matrix = _matrix(ablation.factorial)
    cells = [
        found.add(
            found.without([factor for factor, level in zip(factors, row, strict=True) if level < 0]), "factorial", path
        )
        for row in matrix
    ]
    for comparison, name, signs in _effects(factors, matrix):
        weights = {cell: float(sign) * 2 / len(cells) for cell, sign in zip(cells, signs, strict=True)}
        found.contrasts.append(Contrast(comparison=comparison, name=name, weights=weights))


def _swap(found: Layout, ablation: Ablation) -> None:
    for old, newcomers in ablation.swap.items():
        for new in newcomers:
            found.add(Alteration(swapped=(old, new)), "swap", f"ablation.swap.{old}")


def _modalities(found: Layout, ablation: Ablation) -> None:
    path, sets = "ablation.modalities", ablation.modalities or ()
    if sets == ((ALL,),):
        sizes = range(1, len(found.modalities))
        sets = tuple(subset for size in sizes for subset in combinations(found.modalities, size))
    for index, subset in enumerate(sets):
        known = found.named(subset, f"{path}.{index}", found.modalities, "modality")
        if len(known) == len(subset):
            found.add(found.without([name for name in found.modalities if name not in known]), "modalities", path)


def _sensitivity(found: Layout, ablation: Ablation) -> None:
    for path, values in ablation.sensitivity.items():
        for value in values:
            found.add(Alteration(setting=(path, json.dumps(value))), "sensitivity", f"ablation.sensitivity.{path}")


def _all_or(found: Layout, names: Sequence[str], path: str, known: Sequence[str], nouns: str) -> list[str]:
    """These names as far as they are known; `all` is every component."""
    return list(found.components) if tuple(names) == (ALL,) else found.named(names, path, known, nouns)


_DESIGNS = {
    "leave_one_out": _leave_one_out,
    "additive": _additive,
    "factorial": _factorial,
    "swap": _swap,
    "modalities": _modalities,
    "sensitivity": _sensitivity,
}


def _matrix(factorial: Factorial) -> np.ndarray:
    """Levels (runs, factors) of -1 (removed) and 1 (present), all present first."""
    import pydoe  # half a second

    number, resolution = len(factorial.components), factorial.resolution
    matrix = pydoe.fracfact_by_res(number, resolution) if resolution else pydoe.ff2n(number)
    return np.array(sorted(matrix.tolist(), key=lambda row: [-level for level in row]))


def _effects(factors: Sequence[str], matrix: np.ndarray) -> Iterator[tuple[Comparison, str, np.ndarray]]:
    """Main effects and two-way interactions with their signs (runs,); what a fraction cannot tell apart is one effect.

    An effect is the mean of the runs with sign 1 minus that of those with sign -1 (Box, Hunter & Hunter).
    """
    columns: dict[tuple[float, ...], list[str]] = {}
    for index, factor in enumerate(factors):
        columns.setdefault(tuple(matrix[:, index]), []).append(factor)
    num_main = len(columns)
    for first, second in combinations(range(len(factors)), 2):
        product = tuple(matrix[:, first] * matrix[:, second])
        columns.setdefault(product, []).append(f"{factors[first]} x {factors[second]}")
    for number, (signs, names) in enumerate(columns.items()):
        yield "main effect" if number < num_main else "interaction", " = ".join(names), np.array(signs)
