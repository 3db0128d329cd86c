"""What a field of an experiment accepts beyond its type, and the shorthands it may be written in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from search_spaces.dotted import flatten
from search_spaces.faults import listed, show

MAX_SEED = 2**32 - 1
MAX_SEEDS = 1_000
MAX_TOP = 100
MAX_MEMBERS = 100  # trainings of one search trial, of its seeds and of its folds
MAX_UNITS = 1_000
MAX_BATCH = 64  # configurations that are suggested at once
NUM_SEEDS = 5  # unless an experiment says otherwise
SPREAD = "a test needs the spread between seeds"
STUDY_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,31}$"


def from_source(data: Any) -> Any:
    """`data: PATH` is short for `data: {source: PATH}`."""
    return {"source": data} if isinstance(data, str) else data


def flat(config: Any) -> Any:
    """Nested or dotted values as flat ones; nothing at all is an empty mapping."""
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        return config
    values, twice = flatten(config)
    if twice:
        raise ValueError(f"{listed(twice)} given twice, nested and dotted; delete one of them")
    return values


def mapping(entries: Any) -> Any:
    """Nothing at all is an empty mapping."""
    return {} if entries is None else entries


def kind_of_entry(entry: Any) -> str:
    """Whether an entry of the space lists its values or names a range, as a tag."""
    lists = hasattr(entry, "choices") or (isinstance(entry, Mapping) and "choices" in entry)
    return "<choices>" if lists else "<range>"


def kind_of_entry_or_null(entry: Any) -> str:
    """The same, where null takes an entry away."""
    return "<null>" if entry is None else kind_of_entry(entry)


def study_name(name: str) -> str:
    """A word that can stand in a path, a table and the name of a file."""
    if not re.fullmatch(STUDY_NAME, name):
        raise ValueError(f"got {show(name)} as the name of a study, expected up to 32 letters, digits, _ and -")
    return name


def validation_metric(metric: str) -> str:
    """A metric of the validation split: the test split never selects anything."""
    if metric.startswith("test/"):
        instead = show("valid/" + metric.removeprefix("test/"))
        raise ValueError(f"got {show(metric)}, expected {instead}: the test split never selects anything")
    if not metric.startswith("valid/") or metric == "valid/":
        raise ValueError(f"got {show(metric)}, expected a metric of the validation split such as 'valid/mae'")
    return metric


def searchable(low: float, high: float, log: bool, step: float | None) -> None:
    """A range with values in it, whose steps meet its end."""
    if low >= high:
        raise ValueError(f"got low {low} and high {high}, expected low below high")
    if log and low <= 0:
        raise ValueError(f"got low {low} with log, expected low above 0: zero has no logarithm")
    if log and step is not None:
        raise ValueError(f"got step {step} with log, expected one of them: steps are not logarithmic")
    if step is not None:
        first, end, distance = (Decimal(str(value)) for value in (low, high, step))
        if (end - first) / distance > 10**9:
            raise ValueError(f"got step {step}, expected at most a billion steps from {low} to {high}")
        last = first + (end - first) // distance * distance
        if last != end:
            raise ValueError(f"got high {high}, expected one that steps of {step} from {low} meet, such as {last}")


def distinct_scalars(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """At least one choice, each a different scalar."""
    if not choices:
        raise ValueError("got an empty list, expected at least one choice")
    for choice in choices:
        if not (choice is None or isinstance(choice, bool | int | float | str)) or choice != choice:
            raise ValueError(f"got {show(choice)} as a choice, expected a number, a word, true, false or null")
    if len({(isinstance(choice, bool), choice) for choice in choices}) < len(choices):
        raise ValueError(f"got {show(choices)}, expected different choices")
    return choices


def distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Every item only once."""
    if len(set(items)) < len(items):
        raise ValueError(f"got {show(items)}, expected each only once")
    return items


def some_distinct(modalities: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """At least one modality, each only once; None stands for all."""
    if modalities is not None and not modalities:
        raise ValueError("got an empty list, expected at least one modality; leave the line out to use all")
    return modalities if modalities is None else distinct(modalities)


def counted(seeds: Any) -> Any:
    """`seeds: 3` is short for `seeds: [1, 2, 3]`: seed 0 is by default the one of the search."""
    if isinstance(seeds, int) and not isinstance(seeds, bool) and 0 <= seeds <= MAX_SEEDS:
        return tuple(range(1, seeds + 1))
    return as_tuple(seeds)


def kind_of_seeds(seeds: Any) -> str:
    """Whether the seeds of an ablation are a race or are listed, as a tag."""
    return "<race>" if isinstance(seeds, Mapping) or hasattr(seeds, "until") else "<seeds>"


def kind_of_units(units: Any) -> str:
    """Whether searches or configurations are a race or a number, as a tag."""
    return "<race>" if isinstance(units, Mapping) or hasattr(units, "until") else "<number>"


def some_seeds(seeds: Any) -> Any:
    """Different seeds, at least one."""
    if isinstance(seeds, tuple):
        distinct(seeds)
        if not seeds:
            raise ValueError("got no seed, expected at least one; leave the line out for those of `confirm`")
    return seeds


def enough_seeds(seeds: tuple[int, ...]) -> None:
    """At least two seeds, where they are what is tested: one has no spread to test against."""
    if len(seeds) < 2:
        raise ValueError(f"got {len(seeds)} seed{'s' * (len(seeds) != 1)}, expected at least 2: {SPREAD}")


def all_or_names(names: Any) -> Any:
    """`all` is the name of everything there is."""
    return (names,) if names == "all" else as_tuple(names)


def some_named(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """At least one name, each only once."""
    if names is not None and not names:
        raise ValueError("got an empty list, expected at least one name; leave the line out to do without")
    return names if names is None else distinct(names)


def lists(entries: Any) -> Any:
    """A nested or dotted mapping to lists, where one item stands for a list of it; null is nothing at all."""
    entries = flat(entries)
    if not isinstance(entries, Mapping):
        return entries
    given = {name: each for name, each in entries.items() if each is not None}
    return {name: tuple(each) if isinstance(each, list | tuple) else (each,) for name, each in given.items()}


def distinct_lists(entries: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Lists with at least one item, each only once."""
    for name, items in entries.items():
        if not items:
            raise ValueError(f"got an empty list for {name}, expected at least one item")
        distinct(items)
    return entries


def distinct_settings(entries: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Lists of different finite scalars."""
    for path, values in entries.items():
        distinct_scalars(values)
        if any(isinstance(value, float) and math.isinf(value) for value in values):
            raise ValueError(f"got {show(values)} for {path}, expected finite numbers")
    return entries


def subsets(sets: Any) -> Any:
    """Sets of modalities, each as a list or as `text+audio`; `all` is every set there is."""
    if sets == "all":
        return (("all",),)
    if not isinstance(sets, list | tuple):
        return sets
    return tuple(tuple(each.split("+")) if isinstance(each, str) else as_tuple(each) for each in sets)


def distinct_subsets(sets: tuple[tuple[str, ...], ...] | None) -> tuple[tuple[str, ...], ...] | None:
    """Different sets, none of them empty."""
    for each in sets or ():
        some_distinct(each)
    if sets is not None and len({frozenset(each) for each in sets}) < max(len(sets), 1):
        raise ValueError(f"got {show(['+'.join(each) for each in sets])}, expected different sets, at least one")
    return sets


def from_sources(corpora: Any) -> Any:
    """A list of corpora, each as for `data`; nothing at all is an empty list."""
    corpora = () if corpora is None else corpora
    return tuple(from_source(each) for each in corpora) if isinstance(corpora, list | tuple) else corpora


def of_components(factorial: Any) -> Any:
    """`factorial: [a, b]` is short for `factorial: {components: [a, b]}`."""
    return {"components": factorial} if isinstance(factorial, list | tuple) else factorial


def with_seeds_counted(experiment: dict[str, Any]) -> dict[str, Any]:
    """The data of an experiment in which a number of seeds (of `confirm`, of `ablation`) counts on from the search's.

    So a configuration is never confirmed on the seed it was selected by.
    """
    search = experiment.get("search", {})
    first = search.get("seed", 0) if isinstance(search, dict) else None
    counted = {}
    for section, otherwise in (("confirm", NUM_SEEDS), ("ablation", None)):
        part = experiment.get(section, {})
        number = part.get("seeds", otherwise) if isinstance(part, dict) else None
        if type(first) is not int or type(number) is not int:
            continue
        if first >= 0 and first + number <= MAX_SEED and 0 <= number <= MAX_SEEDS:
            counted[section] = {**part, "seeds": list(range(first + 1, first + 1 + number))}
    return {**experiment, **counted}


def as_tuple(items: Any) -> Any:
    """A list as the tuple that a frozen experiment keeps."""
    return tuple(items) if isinstance(items, list) else items
