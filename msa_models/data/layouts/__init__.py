"""Layouts of corpus files: each module here knows one, and its file name is its registration.

A layout module has `matches(raw) -> bool`, which looks at the keys only, and `read(raw, request) -> Reading`.
"""

import importlib
import pkgutil
from dataclasses import replace
from typing import Protocol, cast

from msa_models.data.containers import RawCorpus, told
from msa_models.data.corpus import CorpusError
from msa_models.data.raw import Reading, Request


class Layout(Protocol):
    """What each module of this package offers."""

    def matches(self, raw: RawCorpus) -> bool:
        """Whether the keys of a file are those of this layout."""
        ...

    def read(self, raw: RawCorpus, request: Request) -> Reading:
        """The features and labels of the file, as asked for."""
        ...


def names() -> tuple[str, ...]:
    """The known layouts."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def read(raw: RawCorpus, request: Request) -> Reading:
    """What the one layout that fits finds in a file, and what a conversion has found before."""
    reading = find(raw).read(raw, request)
    return replace(reading, warnings=(*reading.warnings, *told(raw)))


def find(raw: RawCorpus) -> Layout:
    """The one layout that a file has; CorpusError lists its keys when none fits."""
    layouts = {name: cast(Layout, importlib.import_module(f"{__name__}.{name}")) for name in names()}
    fitting = [name for name, layout in layouts.items() if layout.matches(raw)]
    if len(fitting) != 1:
        found = f"both {' and '.join(fitting)}" if fitting else "no layout"
        keys = ", ".join(raw["train"])
        raise CorpusError(
            f"its keys fit {found} of the known layouts ({', '.join(names())}); its train split has {keys or 'no keys'}"
        )
    return layouts[fitting[0]]
