"""A component from anywhere runs the suite of its seam by a file of three lines, and the suite finds what is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NEW = Path(__file__).parents[2] / "new_components"
SEAMS = {"halver": "GradientModulator", "small_norms": "LossTerm", "weighted_sum": "Fusion"}

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


def test_three_lines_run_the_suite_of_a_component_from_outside_the_package(tmp_path: Path) -> None:
    for name, seam in SEAMS.items():
        suite(tmp_path, name, (NEW / f"{name}.py").read_text(), seam)
    found = re.search(r"(\d+) passed(, \d+ skipped)? in", ran(tmp_path))
    assert found is not None
    assert int(found[1]) > 100


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the tests that must find what is wrong, those that fail."""
    folder = tmp_path_factory.mktemp("wrong")
    chosen = " or ".join(f"(test_{name} and {test})" for name, (*_, test) in WRONG.items())
    for name, (right, old, new, _) in WRONG.items():
        text = (NEW / f"{right}.py").read_text()
        assert old in text
        text = text.replace(old, new, 1).replace("import nn\n", "import nn, torch\n", 1)
        suite(folder, name, text, SEAMS[right])
    return "\n".join(line for line in ran(folder, "--tb=no", "-k", chosen).splitlines() if line.startswith("FAILED"))


@pytest.mark.parametrize("name", WRONG)
def test_the_suite_finds_what_is_wrong_with_a_component(failures: str, name: str) -> None:
    test = WRONG[name][3]
    assert [line for line in failures.splitlines() if f"test_{name}.py" in line and test in line]
