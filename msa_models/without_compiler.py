"""PyTorch's compiler stays unimported until somebody compiles: more than a second of each process that trains.

Torch 2.13: an optimiser asks `torch._dynamo` to leave it alone (`disable`) and to break the graph (`graph_break`).
Both mean nothing where nothing is compiled, and all of it is imported to ask.
"""

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

KNOWN = "2.13."  # any other torch is left as it comes
_NAME = "torch._dynamo"


def without_compiler() -> None:
    """Let optimisers of this process do without it; it is imported once somebody asks for anything else of it."""
    if not torch.__version__.startswith(KNOWN) or _NAME in sys.modules:
        return
    stand_in = _StandIn(_NAME)
    stand_in.__spec__ = find_spec(_NAME)
    sys.modules[_NAME] = stand_in
    setattr(torch, "_dynamo", stand_in)  # noqa: B010


class _StandIn(ModuleType):
    """What the module does while nothing is compiled; for all else it makes way."""

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """There is no graph to break."""

    @staticmethod
    def disable(fn: Any, recursive: bool = True, *, reason: str | None = None, wrapping: bool = True) -> Any:
        """The function as it is."""
        return fn

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # whoever looks through all modules; a submodule needs a path
            raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
            if "_dynamo" in vars(torch):
                delattr(torch, "_dynamo")
        return getattr(importlib.import_module(_NAME), name)
