"""What a type accepts, in words: `a whole number of at least 1`, `'tpe' or 'random'`."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types

from search_spaces.faults import show

_NAMES = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    Any: "anything",
}


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
