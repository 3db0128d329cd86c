"""The parameters of a method's configuration by dotted path, and values put into it, every fault at once."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

import msa_models.methods
from msa_models import discovery
from msa_models.config import conditions, is_later, is_traceless
from msa_models.discovery import OPEN, Method, unusable
from search_spaces.dotted import flatten, within
from search_spaces.faults import ExperimentError, Fault, did_you_mean, expected, fault, listed, literals, show
from search_spaces.schema import own_paths


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
    where: Mapping[str, str]  # path to the value of it with which alone this one means something
    later: bool  # at its default it leaves no trace


@dataclass(frozen=True, kw_only=True)
class Section:
    """An inner part of a configuration; an optional one is a component, removed by None."""

    path: str
    kind: type
    optional: bool
    present: bool  # by default
    title: str
    seam: str  # of the component that it configures, such as `loss term`; "" of anything else
    later: bool  # at its default it leaves no trace


def known_method(name: str) -> Method:
    """A method, whose `Config` takes any component. Raises ExperimentError for an unknown name."""
    known = discovery.names(msa_models.methods)
    if name not in known:
        raise fault("method", f"no method {name!r}; known are {listed(known)}{did_you_mean(name, known)}")
    return discovery.method(name)


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

    A component that the method does not declare, and that nobody asked for, leaves no trace, nor does a setting that
    came later and has its default.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        values = {field: getattr(config, field.name) for field in _fields(config)}
        return {field.name: to_dict(value) for field, value in values.items() if not _traceless(field, value)}
    if isinstance(config, Mapping):
        return {str(key): to_dict(value) for key, value in config.items()}
    if isinstance(config, list | tuple | set | frozenset):
        return [to_dict(item) for item in (sorted(config) if isinstance(config, set | frozenset) else config)]
    return config


def _traceless(field: dataclasses.Field[Any], value: Any) -> bool:
    return is_traceless(field, value) or (value is None and OPEN in field.metadata)


def _walk(
    config_type: type,
    defaults: Any = None,
    prefix: str = "",
    outer: Mapping[str, str] = types.MappingProxyType({}),
    later: bool = False,
) -> Iterator[Parameter | Section]:
    defaults = config_type() if defaults is None else defaults
    hints = get_type_hints(config_type, include_extras=True)
    for field in _fields(config_type):
        path, hint, default = prefix + field.name, hints[field.name], getattr(defaults, field.name)
        where = {**outer, **{prefix + name: value for name, value in conditions(field).items()}}
        came_later = later or is_later(field)
        inner = [argument for argument in _alternatives(hint) if dataclasses.is_dataclass(argument)]
        if len(inner) == 1 and isinstance(inner[0], type):
            yield Section(
                path=path,
                kind=inner[0],
                optional=type(None) in _alternatives(hint),
                present=default is not None,
                title=_title(inner[0]),
                seam=getattr(inner[0], "seam", ""),
                later=came_later,
            )
            yield from _walk(inner[0], default, f"{path}.", where, came_later)
        else:
            yield Parameter(
                path=path,
                default=to_dict(default),
                expects=expected(hint),
                description=_description(hint),
                number=_number(hint),
                words=tuple(literals(hint)),
                hint=hint,
                where=where,
                later=came_later,
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


Config = TypeVar("Config")


def configure(config_type: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration with these values, nested or dotted; all others keep their defaults.

    None removes a component, an empty mapping brings one in with its defaults, and so does any value below one that is
    absent by default. Raises ExperimentError with every fault, each with the path of its parameter.
    """
    flat, twice = flatten(values)
    faults = [Fault(path=path, message="given twice, nested and dotted; delete one of them") for path in twice]
    tree = to_dict(config_type())
    for path, value in flat.items():
        try:
            _refuse_below_removed(config_type, path, flat)
            place(config_type, tree, path, take(config_type, path, value))
        except ExperimentError as error:
            faults += error.faults
    try:
        config = _adapter(config_type).validate_json(json.dumps(tree), strict=True)
        if not faults:
            return config
    except (
        ValidationError
    ) as error:  # every value is fine by itself, so these are about values that do not fit together
        for finding in error.errors():
            path = ".".join(str(part) for part in finding["loc"])
            faults.append(Fault(path=path, message=str(finding.get("ctx", {}).get("error", finding["msg"]))))
    raise ExperimentError(faults)


def take(config_type: type, path: str, value: Any) -> Any:
    """One value as plain data of the type its parameter has (2 is 2.0 where a number is expected).

    Raises ExperimentError if there is no such parameter, or if it does not accept the value.
    """
    section, parameter = sections(config_type).get(path), paths(config_type).get(path)
    if section is not None:
        if value == {} or (value is None and section.optional):
            return value
        also = ", or null to remove it" if section.optional else ""
        inside = listed(_inside(config_type, path))
        raise fault(path, f"got {show(value)}, expected a mapping of {inside}{also}")
    if parameter is None:
        raise fault(path, unknown(config_type, path))
    try:
        if not isinstance(value, float) or not math.isnan(value):
            return to_dict(_leaf_adapter(config_type, path).validate_json(json.dumps(to_dict(value)), strict=True))
    except (TypeError, ValueError, RecursionError):  # not JSON, or pydantic's ValidationError
        pass
    raise fault(path, f"got {show(value)}, expected {parameter.expects}{did_you_mean(value, parameter.words)}")


def removed(config_type: type, values: Mapping[str, Any]) -> frozenset[str]:
    """The components that flat values remove."""
    return frozenset(path for path, value in values.items() if value is None and path in sections(config_type))


def place(config_type: type, tree: dict[str, Any], path: str, value: Any) -> None:
    """Put one taken value into the plain data of a configuration, in place; absent components on the way come in.

    The default of a setting that came later leaves no trace.
    """
    known, parameter = sections(config_type), paths(config_type).get(path)
    words = path.split(".")
    traceless = parameter is not None and parameter.later and value == parameter.default
    inner = tree
    for length, word in enumerate(words[:-1], start=1):
        if inner.get(word) is None:
            section = known[".".join(words[:length])]
            if traceless and section.later:
                return
            inner[word] = to_dict(section.kind())
        inner = inner[word]
    if traceless:
        return
    if value is None and words[-1] not in inner:
        return  # a component that is not there cannot be removed
    if path not in known or value is None:
        inner[words[-1]] = value
    elif inner.get(words[-1]) is None:
        inner[words[-1]] = to_dict(known[path].kind())


def unknown(config_type: type, path: str) -> str:
    """What to say of a path that is no parameter: what there is around it, and which was probably meant."""
    if why := unusable().get(path.partition(".")[0]):
        return f"the component in the file of this name cannot be used: {why}"
    known = [*paths(config_type), *sections(config_type)]
    enclosing = path.rpartition(".")[0]
    while enclosing and enclosing not in sections(config_type):
        enclosing = enclosing.rpartition(".")[0]
    inside = listed(_inside(config_type, enclosing))
    elsewhere = () if "." in path else own_paths()
    return f"no such parameter; {enclosing or 'the method'} has {inside}{did_you_mean(path, [*known, *elsewhere])}"


@cache
def _adapter(config_type: type) -> TypeAdapter[Any]:
    return TypeAdapter(config_type)


@cache
def _leaf_adapter(config_type: type, path: str) -> TypeAdapter[Any]:
    return TypeAdapter(paths(config_type)[path].hint)


def _refuse_below_removed(config_type: type, path: str, flat: Mapping[str, Any]) -> None:
    for component in removed(config_type, flat):
        if path != component and within(path, component):
            raise fault(path, f"set, but {component} is removed (null); delete one of them")


def _inside(config_type: type, enclosing: str) -> list[str]:
    """The names one level below a section, or at the top."""
    everything = [*sections(config_type), *paths(config_type)]
    return [path.rpartition(".")[2] for path in everything if path.rpartition(".")[0] == enclosing]
