"""The known methods and components: every file in their folders, titled by the first line of its docstring."""

from __future__ import annotations

import ast
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import msa_models.components
import msa_models.data.layouts
import msa_models.methods
from msa_models import discovery
from msa_models.discovery import Method
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


def method(name: str) -> Method:
    """A method, whose `Config` takes any component. Raises ExperimentError for an unknown name."""
    known = discovery.names(msa_models.methods)
    if name not in known:
        raise fault("method", f"no method {name!r}; known are {listed(known)}{did_you_mean(name, known)}")
    return discovery.method(name)


def balancing_rules() -> list[str]:
    """The components that are there so that no modality drowns the others."""
    return [name for name, kind in discovery.components().items() if kind.balancing]


def _titles(package: ModuleType) -> dict[str, str]:
    return {name: _title(package, name) for name in discovery.names(package)}


def _title(package: ModuleType, name: str) -> str:
    spec = PathFinder.find_spec(f"{package.__name__}.{name}", package.__path__)
    assert spec is not None, name
    assert spec.origin is not None, name
    try:
        docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    except SyntaxError as error:
        return f"(not Python, see line {error.lineno})"
    return docstring.partition("\n")[0]
