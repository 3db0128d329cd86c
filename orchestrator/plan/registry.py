"""The known methods and components: every file in their folders, titled by the first line of its docstring."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import msa_models.components
import msa_models.data.layouts
import msa_models.methods
from search_spaces.faults import did_you_mean, fault, listed


def methods() -> dict[str, str]:
    """Name and title of every method, found without importing one."""
    return _titles(msa_models.methods)


def components() -> dict[str, str]:
    """Name and title of every component, found without importing one."""
    return _titles(msa_models.components)


def layouts() -> dict[str, str]:
    """Name and title of every layout of corpus files, found without importing one."""
    return _titles(msa_models.data.layouts)


def method(name: str) -> ModuleType:
    """The module of a method, with `Config` and `build`. Raises ExperimentError for an unknown name."""
    return _module(msa_models.methods, name, "method")


def component(name: str) -> ModuleType:
    """The module of a component. Raises ExperimentError for an unknown name."""
    return _module(msa_models.components, name, "component")


def _module(package: ModuleType, name: str, noun: str) -> ModuleType:
    known = _names(package)
    if name not in known:
        message = f"no {noun} {name!r}; known are {listed(known)}{did_you_mean(name, known)}"
        raise fault(noun, message)
    return importlib.import_module(f"{package.__name__}.{name}")


def _names(package: ModuleType) -> list[str]:
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_"))


def _titles(package: ModuleType) -> dict[str, str]:
    return {name: _title(package, name) for name in _names(package)}


def _title(package: ModuleType, name: str) -> str:
    spec = PathFinder.find_spec(f"{package.__name__}.{name}", package.__path__)
    assert spec is not None, name
    assert spec.origin is not None, name
    try:
        docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    except SyntaxError as error:
        return f"(not Python, see line {error.lineno})"
    return docstring.partition("\n")[0]
