"""Check the fields of an options dataclass against their annotations: types, literals and `annotated_types` bounds."""

import dataclasses
import operator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import annotated_types as at

_BOUNDS = {
    at.Gt: ("gt", operator.gt, "above"),
    at.Ge: ("ge", operator.ge, "at least"),
    at.Lt: ("lt", operator.lt, "below"),
}
_BOUNDS[at.Le] = ("le", operator.le, "at most")


def faults(instance: Any) -> list[str]:
    """One line per field that breaks its annotation, such as "steps is 0; expected a whole number, at least 1"."""
    hints = get_type_hints(type(instance), include_extras=True)
    found = []
    for field in dataclasses.fields(instance):
        hint = hints[field.name]
        kind, bounds = (get_args(hint)[0], hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())
        value = getattr(instance, field.name)
        if not (_is(value, kind) and all(_holds(value, bound) for bound in bounds)):
            found.append(f"{field.name} is {value!r}; expected {', '.join([_words(kind), *map(_bound_words, bounds)])}")
    return found


def _is(value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _holds(value: Any, bound: Any) -> bool:
    attribute, compare, _ = _BOUNDS[type(bound)]
    return compare(value, getattr(bound, attribute))


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return {int: "a whole number", float: "a number", bool: "true or false"}[kind]


def _bound_words(bound: Any) -> str:
    attribute, _, words = _BOUNDS[type(bound)]
    return f"{words} {getattr(bound, attribute)}"
