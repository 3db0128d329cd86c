"""The space of an experiment as Optuna distributions, checked against the method.

Both ends of a range and every choice are checked by themselves; then whether they fit together with one another and
with what is fixed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from orchestrator.plan.configure import configure, paths, place, removed, sections, take, to_dict, unknown
from orchestrator.plan.meaning import idle
from search_spaces.dotted import within
from search_spaces.faults import ExperimentError, Fault, fault, show
from search_spaces.parts import Choices, Range

LARGEST_INT = 2**53
MAX_COMBINATIONS = 2_000
NUM_DRAWN = 200  # of more combinations than that: where none of these is possible, a search would be of failures
Candidates = Mapping[str, Mapping[str, Any]]  # searched path -> {"low": 1, "high": 4} or {"choices.0": 1, ...}


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What is searched, and the whole configuration as plain data, searched places holding any one of their values.

    Entries of a component that is removed are no part of it, nor are `idle` ones, which mean nothing with the others.
    """

    distributions: Mapping[str, BaseDistribution]
    config: Mapping[str, Any]
    idle: tuple[str, ...] = ()


def search_space(
    config_type: type,
    values: Mapping[str, Any],
    space: Mapping[str, Range | Choices],
    modalities: Sequence[str] | None = None,
) -> SearchSpace:
    """Flat fixed values and a space, checked by themselves and together; `modalities` are those in use, None for all.

    Raises ExperimentError with every fault; their paths begin with `config.` or `space.`.
    """
    gone, meaningless = removed(config_type, values), idle(config_type, values, space, modalities)
    removed_with = {path for path in space if any(within(path, component) for component in gone)}
    left = removed_with | meaningless
    distributions: dict[str, BaseDistribution] = {}
    faults: list[Fault] = []
    for path, entry in space.items():
        try:
            if path in values and path not in left:
                raise fault(f"space.{path}", "fixed under config and searched here; delete one of them")
            if path not in left:
                distributions[path] = _distribution(config_type, path, entry)
        except ExperimentError as error:
            faults += error.faults
    candidates = {path: _candidates(found) for path, found in distributions.items()}
    faults += _faults_of_fixed(config_type, values, candidates)
    if not faults:
        faults += _faults_together(config_type, values, candidates)
    if faults:
        raise ExperimentError(faults)
    tree = to_dict(config_type())
    for path, value in {**values, **{path: next(iter(found.values())) for path, found in candidates.items()}}.items():
        place(config_type, tree, path, take(config_type, path, value))
    return SearchSpace(
        distributions=distributions,
        config=tree,
        idle=tuple(path for path in space if path in meaningless - removed_with),
    )


def described(distribution: BaseDistribution) -> str:
    """What is searched, in words: `0.001 to 0.1, logarithmic`, or `32, 64`."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    low, high, log = (getattr(distribution, name) for name in ("low", "high", "log"))
    return f"{low:g} to {high:g}{', logarithmic' if log else ''}"


def most(distribution: BaseDistribution) -> Any:
    """The largest number that is searched."""
    return max(_candidates(distribution).values())


def most_epochs(fixed: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> int:
    """Epochs that no configuration of a study exceeds, by its whole fixed configuration and what it searches."""
    searched = distributions.get("training.epochs")
    return fixed["training"]["epochs"] if searched is None else most(searched)


def _distribution(config_type: type, path: str, entry: Range | Choices) -> BaseDistribution:
    """One entry of the space, every value of it that can be checked alone checked alone."""
    if path in sections(config_type):
        inside = [known for known in paths(config_type) if within(known, path)]
        also = f" such as {inside[0]}" if inside else ""
        raise fault(f"space.{path}", f"got a component, expected one of its values{also}")
    if path not in paths(config_type):
        raise fault(f"space.{path}", unknown(config_type, path))
    return _choices(config_type, path, entry) if isinstance(entry, Choices) else _range(config_type, path, entry)


def _choices(config_type: type, path: str, entry: Choices) -> CategoricalDistribution:
    named = {f"choices.{index}": choice for index, choice in enumerate(entry.choices)}
    return CategoricalDistribution(_taken(config_type, path, named))


def _range(config_type: type, path: str, entry: Range) -> FloatDistribution | IntDistribution:
    parameter = paths(config_type)[path]
    if parameter.number is None:
        raise fault(f"space.{path}", f"got a range, expected choices of {parameter.expects}")
    if parameter.number == "float":
        low, high = _taken(config_type, path, {"low": entry.low, "high": entry.high})
        return FloatDistribution(low, high, log=entry.log, step=entry.step)
    low, high, step = entry.low, entry.high, entry.step if entry.step is not None else 1.0
    _taken(config_type, path, {"low": _whole(low), "high": _whole(high)})
    if not step.is_integer() or max(abs(low), abs(high)) > LARGEST_INT:
        raise fault(
            f"space.{path}",
            f"got {show(entry.low)} to {show(entry.high)} in steps of {show(step)}, expected whole numbers",
        )
    _taken(config_type, path, {"step": min(int(low + step), int(high))})
    return IntDistribution(int(low), int(high), log=entry.log, step=int(step))


def _whole(value: float) -> float:
    return int(value) if value.is_integer() else value


def _taken(config_type: type, path: str, candidates: Mapping[str, Any]) -> list[Any]:
    """Candidates as the parameter takes them; the faults of all of them at once, each at its own path."""
    taken, faults = [], []
    for name, value in candidates.items():
        try:
            taken.append(take(config_type, path, value))
        except ExperimentError as error:
            faults += [Fault(path=f"space.{path}.{name}", message=fault.message) for fault in error.faults]
    if faults:
        raise ExperimentError(faults)
    return taken


def _candidates(distribution: BaseDistribution) -> dict[str, Any]:
    """The ends of a range, or every choice."""
    if isinstance(distribution, CategoricalDistribution):
        return {f"choices.{index}": choice for index, choice in enumerate(distribution.choices)}
    assert isinstance(distribution, FloatDistribution | IntDistribution), distribution
    return {"low": distribution.low, "high": distribution.high}


def _faults_of_fixed(config_type: type, values: Mapping[str, Any], candidates: Candidates) -> list[Fault]:
    """Faults that no searched value can heal. A default that is searched over is never used, so it is not checked."""
    faults = _faults(config_type, values, candidates)
    lasting = [fault for fault in faults if not any(within(path, fault.path) for path in candidates)]
    return [Fault(path=f"config.{fault.path}".rstrip("."), message=fault.message) for fault in lasting]


def _faults_together(config_type: type, values: Mapping[str, Any], candidates: Candidates) -> list[Fault]:
    """Searched values that fit no combination of the others, for values that are fine by themselves."""
    troubled = {
        fault.path
        for path, found in candidates.items()
        for value in found.values()
        for fault in _faults(config_type, {**values, path: value}, candidates)
    }
    return [fault for section in sorted(troubled) for fault in _faults_around(config_type, section, values, candidates)]


def _faults_around(config_type: type, section: str, values: Mapping[str, Any], candidates: Candidates) -> list[Fault]:
    searched = [path for path in candidates if within(path, section)]
    combinations = list(islice(product(*(candidates[path].items() for path in searched)), MAX_COMBINATIONS + 1))
    if too_many := len(combinations) > MAX_COMBINATIONS:
        draw = random.Random(0).choice
        combinations = [tuple(draw(list(candidates[path].items())) for path in searched) for _ in range(NUM_DRAWN)]
    messages: list[str] = []
    for combination in combinations:
        chosen = {path: value for path, (_, value) in zip(searched, combination, strict=True)}
        faults = _faults(config_type, {**values, **chosen}, candidates)
        messages.append(next((fault.message for fault in faults if fault.path == section), ""))
    if all(messages):
        return [Fault(path=f"config.{section}".rstrip("."), message=messages[0])]
    if too_many:  # to blame single values; such a misfit is a failed trial that says so
        return []
    misfits = []
    for position, path in enumerate(searched):
        for name in candidates[path]:
            met = [text for entry, text in zip(combinations, messages, strict=True) if entry[position][0] == name]
            if all(met):
                misfits.append(Fault(path=f"space.{path}.{name}", message=met[0]))
    return misfits


def _faults(config_type: type, values: Mapping[str, Any], candidates: Candidates) -> tuple[Fault, ...]:
    """What the configuration says to these values, every other searched place holding its first candidate."""
    firsts = {path: next(iter(found.values())) for path, found in candidates.items()}
    try:
        configure(config_type, {**firsts, **values})
    except ExperimentError as error:
        return error.faults
    return ()
