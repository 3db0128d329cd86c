"""The components and methods, by name: every file in their folders, titled by the first line of its docstring.

A method's configuration takes any component that is found: `opened` gives it a field for each, absent unless asked for.
So one new file adds a component to every method. Nothing here imports torch.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import msa_models.components
import msa_models.methods
from msa_models.seams import Component
from msa_models.spec import MethodConfig, Spec

OPEN = "open"  # in the metadata of a field that was added for a component that was found


@dataclasses.dataclass(frozen=True)
class Method:
    """A method by its name; its `Config` has a field for every component."""

    name: str
    Config: type[Any]
    module: ModuleType

    def build(self, config: Any) -> Spec:
        """The spec of a configuration."""
        return self.module.build(config)


def method(name: str) -> Method:
    """The method of this name, which must be one of `names(msa_models.methods)`."""
    module = importlib.import_module(f"{msa_models.methods.__name__}.{name}")
    return Method(name=name, Config=opened(module.Config), module=module)


def components() -> Mapping[str, type[Component]]:
    """Every component by its name, without those whose file cannot be used, see `unusable`."""
    return {name: found for name, found in _found().items() if not isinstance(found, str)}


def unusable() -> Mapping[str, str]:
    """Why a file in the folder of components gives no component, by the name of the file."""
    return {name: found for name, found in _found().items() if isinstance(found, str)}


def balancing_rules() -> list[str]:
    """The components that are there so that no modality drowns the others."""
    return [name for name, kind in components().items() if kind.balancing]


def opened(config: type[Any]) -> type[Any]:
    """A method's configuration that takes any component, in a field of its name that is None unless asked for.

    A configuration that is no `MethodConfig` stays as it is.
    """
    return _opened(config, tuple(components().items())) if issubclass(config, MethodConfig) else config


def names(package: ModuleType) -> list[str]:
    """The names of the modules of a package, without those that begin with an underscore."""
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_"))


def titles(package: ModuleType) -> dict[str, str]:
    """Name and title of every module of a package, found without importing one."""
    return {name: _title(package, name) for name in names(package)}


@lru_cache
def _opened(config: type[Any], components: tuple[tuple[str, type[Component]], ...]) -> type[Any]:
    own = {field.name for field in dataclasses.fields(config)}
    return dataclasses.make_dataclass(
        config.__name__,
        [
            (name, kind | None, dataclasses.field(default=None, metadata={OPEN: True}))
            for name, kind in components
            if name not in own
        ],
        bases=(config,),
        namespace={"__doc__": config.__doc__, "__module__": config.__module__},
        frozen=True,
        kw_only=True,
    )


def _found() -> dict[str, type[Component] | str]:
    return {name: _component(name) for name in names(msa_models.components)}


def _component(name: str) -> type[Component] | str:
    """The component that a file defines, or what is wrong with the file."""
    try:
        module = importlib.import_module(f"{msa_models.components.__name__}.{name}")
    except Exception as error:  # whatever is in the file
        return f"it cannot be imported ({type(error).__name__}: {error})"
    kinds = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Component)]
    kind = next((each for each in kinds if each.__module__ == module.__name__ and each.name == name), None)
    if kind is None:
        return "it defines no component of its name"
    if name in {field.name for field in dataclasses.fields(MethodConfig)}:
        return "its name is that of a field that every method has; give the file another one"
    try:
        kind()
    except TypeError as error:
        return f"{kind.__name__}() has no value: {error}; expected a default for every field"
    return kind


def _title(package: ModuleType, name: str) -> str:
    spec = PathFinder.find_spec(f"{package.__name__}.{name}", package.__path__)
    assert spec is not None, name
    assert spec.origin is not None, name
    try:
        docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    except SyntaxError as error:
        return f"(not Python, see line {error.lineno})"
    return docstring.partition("\n")[0]
