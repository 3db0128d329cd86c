"""Nested or dotted mappings as one flat mapping of paths: `{training: {epochs: 9}}` is `{training.epochs: 9}`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any


def flatten(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The flat mapping, and the paths that were given more than once (the first stays).

    An empty mapping stays a value: as a component it stands for "present, with its defaults".
    """
    flat: dict[str, Any] = {}
    twice: list[str] = []
    for path, value in _leaves(values):
        if path in flat:
            twice.append(path)
        else:
            flat[path] = value
    return flat, twice


def within(path: str, enclosing: str) -> bool:
    """Whether a path is the enclosing one or lies below it; everything lies below the empty path."""
    return not enclosing or path == enclosing or path.startswith(f"{enclosing}.")


def placed(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration with each value in its place: `encoder.width` is `config["encoder"]["width"]`."""
    tree: dict[str, Any] = copy.deepcopy(dict(config))
    for path, value in values.items():
        *words, last = path.split(".")
        inner = tree
        for word in words:
            inner = inner.setdefault(word, {})
        inner[last] = value
    return tree


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from ((f"{key}.{path}", leaf) for path, leaf in _leaves(value))
        else:
            yield str(key), value
