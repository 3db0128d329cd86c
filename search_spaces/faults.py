"""Faults of what a user wrote: each says where, what arrived and what was expected; all are raised at once."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing to correct: `cpsl.yaml:12: search.trials: 0 arrived, expected a whole number of at least 1`."""

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
    return fault.place.startswith("--set"), int(line) if line.isdecimal() else 0


def show(value: Any) -> str:
    """A value as a reader of YAML knows it, short enough for one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    return _SHORT.repr(list(value) if isinstance(value, tuple) else str(value) if isinstance(value, str) else value)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`. Did you mean 'x'?` for the known word nearest to what arrived, or nothing."""
    if not isinstance(word, str):
        return ""
    candidates = list(known)
    lower = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(word.lower()[:80], lower, n=1)
    same_end = [candidate for candidate in candidates if word and candidate.endswith(f".{word}")]
    best = lower[near[0]] if near else same_end[0] if len(same_end) == 1 else None
    return f". Did you mean {best!r}?" if best is not None and best != word else ""


def listed(words: Iterable[str]) -> str:
    """`a, b, c`, or `none`."""
    return ", ".join(words) or "none"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = 8
