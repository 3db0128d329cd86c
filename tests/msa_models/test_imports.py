"""What importing model code loads, each in a process of its own."""

import subprocess
import sys

import pytest

LIGHT = """
import pkgutil, sys
import msa_models.components, msa_models.methods
from importlib import import_module
from msa_models import batch, coalitions, discovery, geometry, lazy, representations, seams, seeding, spec, transport
found = []
for package in (msa_models.components, msa_models.methods):
    for module in pkgutil.iter_modules(package.__path__):
        found.append(module.name)
        loaded = import_module(f"{package.__name__}.{module.name}")
        if package is msa_models.methods:
            loaded.build(loaded.Config())
assert {"concat", "cpsl", "conflict_penalty"} <= set(found), found
seeding.generator(seeding.derive(0, "order", 1))
print([name for name in ("torch", "safetensors", "ray", "optuna", "pyarrow", "pydantic") if name in sys.modules])
assert lazy.torch.zeros(2).sum().item() == 0 and lazy.nn.Linear and lazy.functional.gelu
print("torch" in sys.modules)
"""

EVERYTHING = """
import pkgutil, sys
import msa_models
from importlib import import_module
names = [module.name for module in pkgutil.walk_packages(msa_models.__path__, "msa_models.")]
assert {"msa_models.training", "msa_models.methods.cpsl", "msa_models.data"} <= set(names), names
for name in names:
    import_module(name)
assert "torch" in sys.modules
foreign = ("ray", "optuna", "pyarrow", "pydantic", "pandas", "click", "yaml", "orchestrator", "search_spaces")
print([name for name in foreign if name in sys.modules])
"""


def printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.slow
def test_components_and_methods_are_described_and_built_without_torch_which_comes_at_its_first_use() -> None:
    assert printed(LIGHT) == "[]\nTrue\n"


@pytest.mark.slow
def test_model_code_knows_nothing_of_sweeps_files_or_clusters() -> None:
    assert printed(EVERYTHING) == "[]\n"


PUBLIC = """
import sys
import msa_models
assert not any(name in sys.modules for name in ("torch", "numpy")), "imported at the first use of a name only"
found = {name: getattr(msa_models, name) for name in msa_models.__all__}
assert found["metrics"].regression([0.5, 1.0], [0.0, 1.0])["mae"] == 0.25
assert found["Training"].__module__ == "msa_models.training"
assert found["transport"].sinkhorn and found["shapley"].shapley_values and found["data"].load
try:
    msa_models.trainig
except AttributeError as error:
    print(error)
"""


@pytest.mark.slow
def test_the_public_names_of_the_package_are_there_and_cost_nothing_until_they_are_used() -> None:
    assert printed(PUBLIC) == "module 'msa_models' has no attribute 'trainig'\n"
