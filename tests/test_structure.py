"""What the house's walls hold: how long a module may be, and where private names of Ray and Optuna may stand."""

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("orchestrator", "msa_models", "search_spaces")
CLI = "orchestrator/cli/"
BACKEND = "orchestrator/run/ray_backend/"
LIBRARIES = ("ray", "optuna")
IMPORTERS = ("import_module", "resolve_name", "__import__")
MOST_LINES = 300  # of a module
NUM_LINES_ABOVE = 4  # of a comment on what stands below it


@dataclass(frozen=True)
class Use:
    """A private name of a library that a module relies on."""

    path: str
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.name}"


def sources() -> dict[str, str]:
    """Every module of the three packages by its path below the repository."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


def private_members() -> set[str]:
    """Names with an underscore of the classes of Optuna that a module may have in its hands."""
    study = optuna.create_study()
    trial = study.ask()
    objects = (study, trial, optuna.samplers.TPESampler(), study.get_trials()[0], optuna.storages.InMemoryStorage())
    return {name for each in objects for name in (*dir(each), *vars(each)) if re.fullmatch(r"_[a-z]\w+", name)}


def is_private(dotted: str) -> bool:
    """Whether a dotted name leads into what its library keeps to itself."""
    library, *inner = dotted.split(".")
    return library in LIBRARIES and any(
        part == "generated" or (part.startswith("_") and not part.startswith("__")) for part in inner
    )


def private_uses(path: str, source: str, members: set[str]) -> Iterator[Use]:
    """Each private name of Ray or Optuna: imported, reached by attributes, named in a string, passed by keyword, or a
    member that objects of Optuna have, used or answered in a module that knows Optuna.
    """
    tree = ast.parse(source)
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                if is_private(alias.name):
                    yield Use(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                if is_private(f"{node.module}.{alias.name}"):
                    yield Use(path, node.lineno, f"{node.module}.{alias.name}")
    knows_optuna = any(each.partition(".")[0] == "optuna" for each in bound.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            dotted = resolved(node, bound)
            if dotted is not None and node.attr.startswith("_") and is_private(dotted):
                yield Use(path, node.lineno, dotted)
            elif knows_optuna and node.attr in members and not of_itself(node):
                yield Use(path, node.lineno, f"optuna's {node.attr}")
        elif isinstance(node, ast.ClassDef) and knows_optuna:
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name in members]
            yield from (Use(path, method.lineno, f"optuna's {method.name}") for method in methods)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_private(node.value.strip()):
            yield Use(path, node.lineno, node.value)
        elif isinstance(node, ast.Call):
            function = resolved(node.func, bound)
            if function is not None and function.partition(".")[0] in LIBRARIES:
                yield from (
                    Use(path, word.value.lineno, f"{function}({word.arg}=…)")
                    for word in node.keywords
                    if word.arg is not None and word.arg.startswith("_")
                )


def resolved(node: ast.expr, bound: Mapping[str, str]) -> str | None:
    """The dotted name of an expression whose first name was imported."""
    if isinstance(node, ast.Name):
        return bound.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = resolved(node.value, bound)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


def of_itself(node: ast.Attribute) -> bool:
    """Whether it is an attribute of `self` or `cls`, which are ours."""
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def installed(library: str) -> str:
    """The release that requirements.lock names."""
    found = re.search(rf"^{library}==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found is not None, library
    return found[1]


@pytest.fixture(scope="module")
def uses() -> list[Use]:
    members = private_members()
    return [use for path, source in sources().items() for use in private_uses(path, source, members)]


def test_private_names_of_ray_and_optuna_stand_only_in_the_ray_backend(uses: list[Use]) -> None:
    outside = [str(use) for use in uses if not use.path.startswith(BACKEND)]
    assert not outside, "\n".join(outside)


def test_each_of_them_says_in_which_release_it_was_read_and_that_is_the_one_that_is_installed(uses: list[Use]) -> None:
    assert len(uses) > 5, "the backend does without private names by now: let this test go"
    modules, unsaid = sources(), []
    for use in uses:
        lines = modules[use.path].splitlines()[max(0, use.line - 1 - NUM_LINES_ABOVE) : use.line]
        library = "optuna" if use.name.startswith("optuna") else "ray"
        if not any(f"{library} {installed(library)}" in line for line in lines if "#" in line):
            unsaid.append(str(use))
    assert not unsaid, "\n".join(unsaid)


def imported(source: str) -> set[str]:
    """The modules that a source imports anywhere, under TYPE_CHECKING and in functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_no_module_is_longer_than_what_is_read_in_one_go() -> None:
    lengths = {path: len(source.splitlines()) for path, source in sources().items()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_nothing_but_the_ray_backend_imports_ray() -> None:
    elsewhere = {path: imported(source) for path, source in sources().items() if not path.startswith(BACKEND)}
    assert [path for path, names in elsewhere.items() if any(name.partition(".")[0] == "ray" for name in names)] == []


def test_a_run_knows_nothing_of_screens() -> None:
    of_runs = {path: imported(source) for path, source in sources().items() if path.startswith("orchestrator/run/")}
    drawing = {
        f"{path}: {name}"
        for path, names in of_runs.items()
        for name in names
        if name.partition(".")[0] == "rich" or name.startswith("orchestrator.views")
    }
    assert drawing == set()


def test_what_a_command_prints_goes_where_nothing_in_it_acts_on_a_terminal() -> None:
    raw = "click.echo(job.script, nl=False)"  # a script is for a file
    commands = {path: source.replace(raw, "") for path, source in sources().items() if path.startswith(CLI)}
    printing = re.compile(r"click\.(echo|secho|echo_via_pager)|(?<![\w.])print\(|sys\.std(out|err)\.write|shlex\.join")
    assert [path for path, source in commands.items() if printing.search(source) and path != f"{CLI}base.py"] == []


@pytest.mark.parametrize(
    "source",
    [
        "from ray._private import services",
        "import ray._raylet",
        "import ray\nray._private.worker.global_worker",
        "import ray as r\nr._private",
        "from ray import tune\ntune._trainable",
        "from importlib import import_module\nimport_module('ray._raylet')",
        "from importlib import import_module\nimport_module(f'ray.core.generated.gcs_service_pb2{end}')",
        "import pkgutil\npkgutil.resolve_name('ray.core.generated.gcs_pb2')",
        "import ray\nray.init(_node_ip_address='127.0.0.1')",
        "from optuna.samplers._tpe import sampler",
        "import optuna\nstudy = optuna.create_study()\nstudy._get_trials()",
        "from optuna import Study\nclass Bounded:\n    def _get_trials(self): ...",
        "from optuna.trial import FrozenTrial\ndef f(trial): return trial._trial_id",
    ],
)
def test_a_private_name_is_seen_however_it_is_reached(source: str) -> None:
    assert list(private_uses("a.py", source, private_members()))


@pytest.mark.parametrize(
    "source",
    [
        "import ray\nray.init(address='auto')\nray.util.placement_group([])",
        "from ray.tune import Stopper",
        "import optuna\nclass Sampler(optuna.samplers.BaseSampler):\n    def __init__(self): self._space = {}",
        "class Ours:\n    def _get_trials(self): ...",
        "text = 'ray is not _private'",
    ],
)
def test_what_is_public_or_ours_is_not_taken_for_private(source: str) -> None:
    assert not list(private_uses("a.py", textwrap.dedent(source), private_members()))
