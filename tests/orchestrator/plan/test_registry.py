import subprocess
import sys
from types import ModuleType

import pytest

import msa_models.components
from orchestrator.plan import registry
from search_spaces.faults import ExperimentError


def test_a_file_in_the_folder_is_a_method_titled_by_the_first_line_of_its_docstring(fake: ModuleType) -> None:
    assert registry.methods()["fake"] == (
        "A small method for tests: its configuration has every kind of field that real ones have."
    )


def test_an_unknown_method_is_answered_with_the_known_ones_and_the_nearest(fake: ModuleType) -> None:
    with pytest.raises(ExperimentError, match=r"no method 'fakee'; known are .*fake.*\. Did you mean 'fake'\?"):
        registry.method("fakee")


def test_a_file_that_is_no_python_is_listed_with_the_line_that_is_wrong(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken.py").write_text("'''Fine.'''\n\nx = = 1\n")
    (tmp_path / "_hidden.py").write_text("")
    monkeypatch.setattr(msa_models.components, "__path__", [str(tmp_path)])
    assert registry.components() == {"broken": "(not Python, see line 3)"}


def test_listing_and_planning_import_neither_torch_nor_ray() -> None:
    code = """
import sys
from orchestrator.plan import plan, registry
from orchestrator.plan.configure import paths
assert registry.components()
for name in registry.methods():
    assert paths(registry.method(name).Config)
print([name for name in ("torch", "ray", "pyarrow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
