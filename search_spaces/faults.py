"""Faults of what a user wrote: each says where, what it got and what it expected; all are raised at once.

`show` has the words for what was got, `expected` those for what a type accepts: `a whole number of at least 1`.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing to correct: `cpsl.yaml:12: search.trials: got 0, expected a whole number of at least 1`."""

    message: str
    path: str = ""
    place: str = ""

    def __str__(self) -> str:
        path = "" if self.place == f"--set {self.path}" else self.path
        line = ": ".join(part for part in (self.place, path, self.message) if part)
        return "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)


class ExperimentError(ValueError):
    """Everything that is wrong with an experiment or a configuration, one line per fault."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


def fault(path: str, message: str, *, place: str = "") -> ExperimentError:
    """The error of a single fault, to be raised."""
    return ExperimentError([Fault(path=path, message=message, place=place)])


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where each dotted path of an experiment was written: a line of its file, or an override."""

    source: str = ""
    written: Mapping[str, str] = field(default_factory=dict)

    def of(self, path: str) -> str:
        """The place of a path, else of the first thing in it, else of what encloses it, else the source."""
        if path not in self.written:
            path = next((inner for inner in self.written if inner.startswith(f"{path}.")), path)
        while path and path not in self.written:
            path = path.rpartition(".")[0]
        return self.written.get(path, self.source)

    def located(self, faults: Iterable[Fault]) -> list[Fault]:
        """The same faults by line, overrides last, each with the place of its path unless it has one already."""
        return sorted((replace(fault, place=fault.place or self.of(fault.path)) for fault in faults), key=_order)


def _order(fault: Fault) -> tuple[bool, int]:
    line = fault.place.rpartition(":")[2]
    return fault.place.startswith("--"), int(line) if line.isdecimal() else 0


def show(value: Any) -> str:
    """A value as a reader of YAML knows it, short enough for one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    return _SHORT.repr(list(value) if isinstance(value, tuple) else str(value) if isinstance(value, str) else value)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`. Did you mean 'x'?` for what was probably meant of the known words and paths, or nothing."""
    if not isinstance(word, str) or not word or word in (known := list(known)):
        return ""
    meant = [repr(each) for each in _meant(word.lower()[:80], {each.lower(): each for each in known})]
    return f". Did you mean {' or '.join(', '.join(meant).rsplit(', ', 1))}?" if meant else ""


def _meant(word: str, known: Mapping[str, str]) -> list[str]:
    """The first of these that there is: the word itself; its plural or singular; up to three paths that end in it, or
    words that it begins, or whose initials it is; the nearest word in the same section; the same word in others; the
    nearest of all. What encloses it is never meant.
    """
    candidates = [each for each in known if not word.startswith(f"{each}.")]
    section, _, last = word.rpartition(".")
    beside = [each for each in candidates if section and each.rpartition(".")[0] == section]
    for found in (
        [each for each in candidates if each == word],
        [each for each in candidates if each in (f"{word}s", word.removesuffix("s"))],
        [each for each in candidates if each.endswith(f".{word}")],
        [each for each in candidates if each.startswith(word) and not each[len(word) :][:1].isalnum()],
        [each for each in (beside if section else candidates) if _initials(each.rpartition(".")[2]) == last],
        [f"{section}.{near}" for near in get_close_matches(last, [each.rpartition(".")[2] for each in beside], n=1)],
        [each for each in candidates if section and each.endswith(f".{last}")],
        get_close_matches(word, () if section in known else candidates, n=1),
    ):
        if 1 <= len(found) <= _MOST_MEANT:
            return [known[each] for each in found]
    return []


def _initials(name: str) -> str:
    """`lr` of `learning_rate`; nothing of a single word."""
    parts = name.split("_")
    return "".join(part[:1] for part in parts) if len(parts) > 1 else ""


def listed(words: Iterable[str]) -> str:
    """`a, b, c`, or `none`."""
    return ", ".join(words) or "none"


@dataclass(frozen=True)
class Expects:
    """Metadata of `Annotated` for a type whose own words say too little."""

    words: str


def expected(annotation: Any) -> str:
    """What an annotation accepts; constraints are those of `annotated_types`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _constrained(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return _either([expected(argument) for argument in inner] + ["null"] * (len(inner) < len(arguments)))
    if origin is Literal:
        return _either([show(argument) for argument in arguments])
    if origin in (tuple, list, set, frozenset) or annotation in (tuple, list):
        items = [expected(item) for item in arguments if item is not ...]
        if origin is tuple and len(items) == len(arguments):
            return f"a list of {len(items)}: {', '.join(items)}"
        return f"a list, each {items[0]}" if items else "a list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if hasattr(annotation, "expects"):
        return annotation.expects
    if dataclasses.is_dataclass(annotation):
        names = [field.name for field in dataclasses.fields(annotation)]
        return f"a mapping of {', '.join(names)}" if names else "an empty mapping"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def literals(annotation: Any) -> list[str]:
    """The words among the literal values that an annotation accepts, for suggestions."""
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    return [word for argument in get_args(annotation) if get_args(argument) for word in literals(argument)]


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)


def _constrained(annotation: Any, metadata: tuple[Any, ...]) -> str:
    constraints = list(_flat(metadata))
    for constraint in constraints:
        if isinstance(constraint, Expects):
            return constraint.words
    bounds = [words for constraint in constraints if (words := _bound(constraint))]
    base = expected(annotation)
    if annotated_types.Lt(math.inf) in constraints:
        base = base.replace("a number", "a finite number")
    return f"{base} {' and '.join(bounds)}" if bounds else base


def _flat(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for item in metadata:
        if isinstance(item, annotated_types.GroupedMetadata):
            yield from item
        else:
            yield item


def _bound(constraint: Any) -> str:
    match constraint:
        case annotated_types.Gt(gt):
            return f"greater than {gt}"
        case annotated_types.Ge(ge):
            return f"of at least {ge}"
        case annotated_types.Lt(lt) if lt != math.inf:
            return f"less than {lt}"
        case annotated_types.Le(le):
            return f"of at most {le}"
        case annotated_types.MultipleOf(multiple):
            return f"that is a multiple of {multiple}"
        case annotated_types.MinLen(length):
            return f"of length at least {length}"
        case annotated_types.MaxLen(length):
            return f"of length at most {length}"
    return ""


_NAMES = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    Any: "anything",
}
_MOST_MEANT = 3
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = 8
