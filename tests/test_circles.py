"""The structure of the house: modules import one another in one direction, wherever in a file the import stands."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("msa_models", "orchestrator", "search_spaces")


def modules(root: Path) -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    files = [file for package in PACKAGES for file in sorted((root / package).rglob("*.py"))]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of the house that a file imports: at its top, inside functions and under TYPE_CHECKING."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield from (found for found in [inner if inner in known else source] if found in known)


def imports(root: Path) -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    known = modules(root)
    return {name: {each for each in imported(name, path, known) if each != name} for name, path in known.items()}


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules each of which reaches all others of its group (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            found.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return [group for group in found if len(group) > 1]


def test_no_modules_import_one_another_in_a_circle_imports_for_type_checking_included() -> None:
    assert circles(imports(ROOT)) == []


@pytest.mark.parametrize(
    "back",
    [
        "from msa_models import seams\n",
        "from .seams import Fusion\n",
        "import msa_models.seams\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from msa_models.seams import Fusion\n",
        "def late():\n    from msa_models.seams import Fusion\n",
    ],
)
def test_a_circle_is_found_wherever_the_import_that_closes_it_stands(tmp_path: Path, back: str) -> None:
    folder = tmp_path / "msa_models"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "seams.py").write_text("from msa_models.representations import Forward\n")
    (folder / "representations.py").write_text("import msa_models\n")
    assert circles(imports(tmp_path)) == []
    (folder / "representations.py").write_text(back)
    assert circles(imports(tmp_path)) == [["msa_models.representations", "msa_models.seams"]]
