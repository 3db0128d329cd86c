"""A component from anywhere runs the suite of its seam by a file of three lines, and the suite finds what is wrong."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from msa_models import testing
from msa_models.testing.cases import Contract

NEW = Path(__file__).parents[2] / "new_components"
SEAMS = {"halver": "GradientModulator", "small_norms": "LossTerm", "weighted_sum": "Fusion"}

QUICK = "not sequences and not text"  # without the cases of layouts and modalities that take longest

WRONG = {  # name -> the component, a change that makes it wrong, and the test that must find it
    "noisy": ("halver", "* (self.share - 1.0)", "* (self.share - torch.rand(()))", "draws_of_a_modulator"),
    "greedy": ("halver", "(self.share - 1.0) + 1.0", "float('nan')", "one_finite_gradient"),
    "in_place": (
        "halver",
        "        magnitude =",
        "        [each.mul_(2) for each in gradients.groups['task'].values()]\n        magnitude =",
        "keeps_those_it_got",
    ),
    "forgetful": ("halver", "Annotated[float, Gt(0), Le(1)]", "float", "bounds_its_numbers"),
    "negative": ("small_norms", ".square().mean()", ".mean() - 1.0", "a_loss_is_a_scalar"),
    "rooted": ("small_norms", ".square().mean()", ".square().mean().sqrt()", "representations_that_have_collapsed"),
    "first_only": ("small_norms", ".square().mean()", "[:, 0].square().mean()", "the_order_of_the_batch"),
    "padded": (
        "small_norms",
        "pooled(forward.representations).square().mean()",
        "sum(each.hidden.square().mean() for each in forward.representations.values())",
        "padding_changes_neither",
    ),
    "too_wide": ("weighted_sum", "return shapes.width", "return shapes.width + 1", "the_width_that_it_says"),
    "unused": (
        "weighted_sum",
        'parts.get_parameter("weight")',
        'parts.get_parameter("weight").detach()',
        "learns_gets",
    ),
    "of_the_batch": (
        "weighted_sum",
        "pooled(representations))",
        "pooled(representations) - pooled(representations).mean(1, keepdim=True))",
        "the_others_in_its_batch",
    ),
}


def ran(folder: Path, *words: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).parents[3]}",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        str(folder),
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def suite(folder: Path, name: str, text: str, seam: str) -> None:
    (kind,) = re.findall(r"class (\w+)\(", text)
    (folder / f"{name}.py").write_text(text)
    (folder / f"test_{name}.py").write_text(
        f"from msa_models.testing import {seam}Contract\n"
        f"from {name} import {kind}\n"
        f"class TestMine({seam}Contract): subjects = [{kind}()]\n"
    )


@pytest.mark.slow
def test_three_lines_run_the_suite_of_a_component_from_outside_the_package(tmp_path: Path) -> None:
    for name, seam in SEAMS.items():
        suite(tmp_path, name, (NEW / f"{name}.py").read_text(), seam)
    found = re.search(r"(\d+) passed(?:, \d+ skipped)?, (\d+) deselected in", ran(tmp_path, "-k", QUICK))
    assert found is not None
    assert int(found[1]) > 50
    assert int(found[1]) + int(found[2]) > 150


def every_case(contract: Contract, test: Callable[..., None]) -> None:
    for case in contract.cases(test):
        test(**case)


@pytest.mark.parametrize("name", WRONG)
def test_the_suite_finds_what_is_wrong_with_a_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    right, old, new, words = WRONG[name]
    text = (NEW / f"{right}.py").read_text()
    assert old in text
    (tmp_path / f"{name}.py").write_text(text.replace(old, new, 1).replace("import nn\n", "import nn, torch\n", 1))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    (kind,) = re.findall(r"class (\w+)\(", text)
    component = getattr(importlib.import_module(name), kind)()
    contract = type("TestMine", (getattr(testing, f"{SEAMS[right]}Contract"),), {"subjects": [component]})()
    (test,) = (getattr(contract, each) for each in dir(contract) if each.startswith("test_") and words in each)
    with pytest.raises(AssertionError):
        every_case(contract, test)
