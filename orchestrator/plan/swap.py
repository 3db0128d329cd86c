"""Can a component take another's place? It needs one that is there, and one of the same seam that is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msa_models.discovery import unusable
from orchestrator.plan.parameters import sections
from search_spaces.dotted import within
from search_spaces.faults import Fault, did_you_mean, listed


def swap_faults(config_type: type, swap: Mapping[str, str], values: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with swaps (old to new) on top of flat fixed values; paths begin with `swap.`."""
    return [
        Fault(path=f"swap.{old}", message=message)
        for old, new in swap.items()
        if (message := _fault(config_type, swap, values, old, new))
    ]


def _fault(config_type: type, swap: Mapping[str, str], values: Mapping[str, Any], old: str, new: str) -> str:
    components = {path: section.seam for path, section in sections(config_type).items() if section.optional}
    absent = [name for name in components if not _present(config_type, values, name)]
    for name in (old, new):
        if name in unusable():
            return f"the component {name} cannot be used: {unusable()[name]}"
    if old not in components:
        there = [name for name in components if name not in absent]
        return f"no component {old!r}; the method has {listed(there)}{did_you_mean(old, components)}"
    alike = [name for name, seam in components.items() if seam == components[old] and name != old]
    candidates = [name for name in alike if name in absent]
    if new not in components:
        return f"no component {new!r}; {_candidates(old, candidates)}{did_you_mean(new, components)}"
    if old in absent:
        add = f"bring {new} in by itself, with config: {{{new}: {{}}}}"
        return f"{old} is not there, so nothing can take its place; {add}"
    if components[new] != components[old]:
        return f"{new} is {_kind(components[new])} and {old} {_kind(components[old])}; {_candidates(old, candidates)}"
    if new in values and values[new] is None:
        return f"{new} arrived to take its place, but config removes it (null); delete one of them"
    if new not in absent and sections(config_type)[new].present:
        return f"{new} arrived to take its place, but is there already; {_candidates(old, candidates)}"
    if list(swap.values()).count(new) > 1:
        return f"{new} arrived to take two places, expected a different one for each"
    return ""


def _candidates(old: str, candidates: Sequence[str]) -> str:
    return f"in the place of {old} can come {listed(candidates)}" if candidates else f"nothing can replace {old}"


def _kind(seam: str) -> str:
    return f"a {seam}" if seam else "no component of a seam"


def _present(config_type: type, values: Mapping[str, Any], component: str) -> bool:
    """Whether flat values leave a component in, or bring it in."""
    if component in values:
        return values[component] is not None
    return sections(config_type)[component].present or any(within(path, component) for path in values)
