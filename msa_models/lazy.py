"""torch at its first use, so that configurations, `msa list` and `msa describe` never pay its seconds of import.

Modules that only describe components write `from msa_models.lazy import nn, torch` and touch them inside functions
alone; modules that subclass `torch.nn.Module` import torch plainly and are imported only where something is trained.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> object:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.nn import functional
else:
    torch = _Lazy("torch")
    nn = _Lazy("torch.nn")
    functional = _Lazy("torch.nn.functional")

__all__ = ["exports", "functional", "nn", "torch"]


def exports(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose public names (name -> module) are imported at their first use."""

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(names[name])
        value = module if names[name] == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return get
