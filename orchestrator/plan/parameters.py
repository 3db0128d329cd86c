"""Every parameter of a method's configuration by its dotted path, for suggestions, `msa describe` and the docs."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from msa_models.discovery import OPEN
from search_spaces.expectation import expected, literals


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A leaf of a configuration: `conflict_penalty.threshold`."""

    path: str
    default: Any  # plain data
    expects: str  # `a number greater than 1`
    description: str
    number: Literal["int", "float"] | None  # what a range of it is made of
    words: tuple[str, ...]  # its literal values, for suggestions
    hint: Any  # the annotation itself


@dataclass(frozen=True, kw_only=True)
class Section:
    """An inner part of a configuration; an optional one is a component, removed by None."""

    path: str
    kind: type
    optional: bool
    present: bool  # by default
    title: str
    seam: str  # of the component that it configures, such as `loss term`; "" of anything else


@cache
def paths(config_type: type) -> Mapping[str, Parameter]:
    """Every leaf of a frozen dataclass tree, by dotted path and in the order of its fields."""
    return types.MappingProxyType({item.path: item for item in _walk(config_type) if isinstance(item, Parameter)})


@cache
def sections(config_type: type) -> Mapping[str, Section]:
    """Every inner dataclass of the tree, by dotted path and in the order of its fields."""
    return types.MappingProxyType({item.path: item for item in _walk(config_type) if isinstance(item, Section)})


def to_dict(config: Any) -> Any:
    """A configuration as plain data that JSON can hold: mappings, lists and scalars.

    A component that the method does not declare, and that nobody asked for, leaves no trace.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        values = {field: getattr(config, field.name) for field in _fields(config)}
        return {
            field.name: to_dict(value)
            for field, value in values.items()
            if value is not None or OPEN not in field.metadata
        }
    if isinstance(config, Mapping):
        return {str(key): to_dict(value) for key, value in config.items()}
    if isinstance(config, list | tuple | set | frozenset):
        return [to_dict(item) for item in (sorted(config) if isinstance(config, set | frozenset) else config)]
    return config


def _walk(config_type: type, defaults: Any = None, prefix: str = "") -> Iterator[Parameter | Section]:
    defaults = config_type() if defaults is None else defaults
    hints = get_type_hints(config_type, include_extras=True)
    for field in _fields(config_type):
        path, hint, default = prefix + field.name, hints[field.name], getattr(defaults, field.name)
        inner = [argument for argument in _alternatives(hint) if dataclasses.is_dataclass(argument)]
        if len(inner) == 1 and isinstance(inner[0], type):
            yield Section(
                path=path,
                kind=inner[0],
                optional=type(None) in _alternatives(hint),
                present=default is not None,
                title=_title(inner[0]),
                seam=getattr(inner[0], "seam", ""),
            )
            yield from _walk(inner[0], default, f"{path}.")
        else:
            yield Parameter(
                path=path,
                default=to_dict(default),
                expects=expected(hint),
                description=_description(hint),
                number=_number(hint),
                words=tuple(literals(hint)),
                hint=hint,
            )


def _fields(config: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(config) if field.init]


def _alternatives(hint: Any) -> list[Any]:
    """The types that a hint allows, without metadata."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _alternatives(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return [inner for argument in get_args(hint) for inner in _alternatives(argument)]
    return [hint]


def _number(hint: Any) -> Literal["int", "float"] | None:
    alternatives = _alternatives(hint)
    return "float" if float in alternatives else "int" if int in alternatives else None


def _description(hint: Any) -> str:
    """What `annotated_types.doc` or `typing_extensions.Doc` says in the metadata of a hint."""
    if get_origin(hint) is Annotated:
        for item in get_args(hint)[1:]:
            if isinstance(documentation := getattr(item, "documentation", None), str):
                return documentation
    return next((text for argument in get_args(hint) if (text := _description(argument))), "")


def _title(kind: type) -> str:
    docstring = kind.__doc__ or ""
    return "" if docstring.startswith(f"{kind.__name__}(") else docstring.strip().partition("\n")[0]
