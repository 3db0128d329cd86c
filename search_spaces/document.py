"""YAML text as plain data that remembers the line of everything: the core schema of YAML 1.2, nothing executable.

PyYAML alone reads YAML 1.1, where `1e-3` is text, `no` is false and `1:30` is ninety; here `1e-3` is a number and the
other two are text. Duplicate keys, keys that are not words and foreign tags are faults, not surprises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from search_spaces.faults import ExperimentError, Fault, fault

MAX_DEPTH = 40
MAX_VALUES = 50_000
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, kw_only=True)
class Document:
    """Plain data (mappings, lists, scalars), the line of every dotted path, and the faults met on the way."""

    data: Any
    lines: dict[str, int]
    faults: list[Fault]


def parse(text: str, source: str = "") -> Document:
    """Read one YAML document. Raises ExperimentError with one fault for what is not YAML at all."""
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _unreadable(source, mark.line + 1 if mark else None, _syntax(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _unreadable(source, line, f"the character {chr(error.character)!r} is not allowed in YAML") from None
    except RecursionError:
        raise _unreadable(source, None, f"nested more than {MAX_DEPTH} deep") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise _unreadable(source, None, f"not YAML: {error}") from None
    reading = _Reading(source)
    data = None if root is None else reading.value(root, "", ())
    return Document(data=data, lines=reading.lines, faults=reading.faults)


class _CoreLoader(yaml.SafeLoader):
    """Resolves plain scalars by the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _CoreLoader.add_implicit_resolver(_TAG + _kind, re.compile(rf"^(?:{_pattern})\Z"), _first)


@dataclass
class _Reading:
    """One pass over the nodes of a document."""

    source: str
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    num_values: int = 0

    def value(self, node: yaml.Node, path: str, enclosing: tuple[yaml.Node, ...]) -> Any:
        self.num_values += 1
        if len(enclosing) > MAX_DEPTH or any(node is other for other in enclosing):
            raise _unreadable(self.source, _line(node), f"nested more than {MAX_DEPTH} deep, or an alias inside itself")
        if self.num_values > MAX_VALUES:
            raise _unreadable(self.source, _line(node), f"more than {MAX_VALUES} values, counting aliases")
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path, (*enclosing, node))
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return self._list(node, path, (*enclosing, node))
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: str, enclosing: tuple[yaml.Node, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                written = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                self._fault(key_node, path, f"got {written} as a key, expected a word")
                continue
            key, line = self._scalar(key_node, path), _line(key_node)
            inner = f"{path}.{key}" if path else key
            if key in first_line:
                self._fault(key_node, inner, f"given twice, first on line {first_line[key]}; delete one of them")
                continue
            first_line[key] = line
            self.lines.setdefault(inner, line)
            data[key] = self.value(value_node, inner, enclosing)
        return data

    def _list(self, node: yaml.SequenceNode, path: str, enclosing: tuple[yaml.Node, ...]) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            inner = f"{path}.{index}"
            self.lines.setdefault(inner, _line(item))
            items.append(self.value(item, inner, enclosing))
        return items

    def _scalar(self, node: yaml.Node, path: str) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        try:
            if not isinstance(node, yaml.ScalarNode) or kind not in _SCALARS:
                raise _RefusedError(f"got the tag {node.tag!r}, expected plain values, lists and mappings")
            return _SCALARS[kind](text)
        except _RefusedError as error:
            self._fault(node, path, str(error))
        except (ValueError, KeyError):  # of an explicit tag, such as `!!int x`
            self._fault(node, path, f"got {text!r}, expected what its tag {node.tag!r} says")
        return None

    def _fault(self, node: yaml.Node, path: str, message: str) -> None:
        self.faults.append(Fault(place=_place(self.source, _line(node)), path=path, message=message))


class _RefusedError(ValueError):
    """A scalar that we do not take, and why."""


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _RefusedError(f"got {text!r}, expected text without halves of characters") from None
    return text


def _whole_number(text: str) -> int:
    if len(text) > 300:
        raise _RefusedError(f"got a number of {len(text)} digits, expected one of at most 300")
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _number(text: str) -> float:
    value = float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    if value != value:
        raise _RefusedError(f"got {text}, expected a number")
    return value


_SCALARS = {
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": _whole_number,
    "float": _number,
    "str": _text,
}


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _place(source: str, line: int | None) -> str:
    return f"{source}:{line}" if source and line else source


def _unreadable(source: str, line: int | None, message: str) -> ExperimentError:
    return fault("", message, place=_place(source, line))


def _syntax(error: yaml.MarkedYAMLError) -> str:
    if "'\\t'" in str(error.problem):
        return "got a tab, expected spaces: YAML does not indent with tabs"
    return "not YAML: " + ", ".join(part for part in (error.context, error.problem) if part)
