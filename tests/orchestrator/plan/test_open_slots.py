"""One new file in the folder of components is enough: a balancing rule, a loss term and a fusion, each in one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import msa_models.components
import msa_models.methods
from msa_models import data, discovery
from msa_models.training import Training
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.configure import configure, known_method, paths
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import Plan, plan
from orchestrator.plan.studies import cell_id
from search_spaces.faults import ExperimentError
from search_spaces.loading import load, validate

FOLDER = Path(__file__).parents[2] / "new_components"
NEW = {"halver": "conflict_penalty", "small_norms": "statistical_loss", "weighted_sum": "gated_fusion"}
SIZES = {"num_train": 24, "num_valid": 12, "num_test": 8, "steps": 4}
SMALL = {"encoder.width": 8, "encoder.heads": 2, "training.batch_size": 8, "training.epochs": 2}

every_new = pytest.mark.parametrize("name", NEW)


@pytest.fixture(autouse=True)
def new_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msa_models.components, "__path__", [*msa_models.components.__path__, str(FOLDER)])


def asked(corpus: CorpusInfo, **changes: Any) -> Plan:
    experiment = {"method": "cpsl", "data": "synthetic", "objective": {"metric": "valid/mae"}, "confirm": {"seeds": 2}}
    return plan(validate(experiment | changes), corpus)


def fault_of(corpus: CorpusInfo, **changes: Any) -> str:
    with pytest.raises(ExperimentError) as raised:
        asked(corpus, **changes)
    (fault,) = raised.value.faults
    return f"{fault.path}: {fault.message}"


@pytest.mark.slow
def test_a_command_lists_new_files_and_plans_with_them_without_another_edit() -> None:
    code = f"""
import sys
import msa_models.components
msa_models.components.__path__.append({str(FOLDER)!r})
from orchestrator.cli import msa
for words in (
    ["list"],
    ["sweep", "cpsl", "--set", "swap.conflict_penalty=halver", "--set", "small_norms={{}}", "--dry-run"],
):
    msa(words, standalone_mode=False)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "halver Halver: every encoder but the one with the smallest gradient" in said
    assert "halver for conflict_penalty" in done.stdout
    assert "small_norms.weight" in done.stdout


@every_new
def test_a_new_component_comes_into_any_method_and_takes_its_settings(name: str) -> None:
    assert name in discovery.names(msa_models.components)
    for method in discovery.names(msa_models.methods):
        config_type = known_method(method).Config
        gone = dict.fromkeys([*NEW.values(), "prototype_gated_fusion", "shapley_modulation"])
        config = configure(config_type, {**gone, name: {}})
        assert name in {each.name for each in known_method(method).build(config).components}
        assert name == "weighted_sum" or any(path.startswith(f"{name}.") for path in paths(config_type))


@pytest.mark.slow
@every_new
def test_a_new_component_is_swapped_in_and_is_a_cell_of_an_ablation(corpus: CorpusInfo, name: str) -> None:
    (study,) = asked(corpus, swap={NEW[name]: name}).studies
    assert study.fixed[NEW[name]] is None
    assert study.fixed[name] is not None
    found = plan_ablation(load("cpsl", [f"ablation.swap.{NEW[name]}={name}"]).experiment, [corpus])
    assert found.grid is not None
    (cell,) = (cell for cell in found.grid.cells if cell.alteration.swapped == (NEW[name], name))
    assert cell.study.fixed[NEW[name]] is None
    assert cell.study.fixed[name] is not None


def test_an_ablation_removes_a_new_component_that_was_brought_in_but_not_a_shared_state(corpus: CorpusInfo) -> None:
    brought = {name: {} for name in ("small_norms", "prototypes", "prototype_calibration")}
    experiment = {"method": "concat", "data": "synthetic", "objective": {"metric": "valid/mae"}, "config": brought}
    found = plan_ablation(validate(experiment), [corpus])
    assert found.grid is not None
    removed = [cell.name for cell in found.grid.cells if cell.name.startswith("without ")]
    assert {"without prototype_calibration", "without small_norms"} <= set(removed)
    assert "without prototypes" not in removed


@every_new
def test_a_method_trains_with_a_new_component(name: str) -> None:
    method = known_method("cpsl")
    config = configure(method.Config, {**SMALL, NEW[name]: None, name: {}})
    corpus = data.load("synthetic", task="regression", options=SIZES).standardised()
    training = Training(method.build(config), corpus, seed=0)
    assert len(list(training)) == 2
    assert training.result().metrics["test/mae"] > 0
    assert name in training.network.parts


def test_new_components_that_are_absent_change_no_identity(corpus: CorpusInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    (with_them,) = asked(corpus).studies
    monkeypatch.undo()
    (without,) = asked(corpus).studies
    assert with_them.study_id == without.study_id
    assert with_them.fixed == without.fixed
    trained: dict[str, Any] = {"method": "cpsl", "seed": 1, "modalities": ("text",), "objective": ("valid/mae", "x")}
    trained |= {"data_fingerprint": "d", "code_fingerprint": "c"}
    assert cell_id(config={**with_them.fixed, "halver": None}, **trained) == cell_id(config=without.fixed, **trained)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"swap": {"gated_fusion": "pmr"}},
            "swap.gated_fusion: pmr is a loss term and gated_fusion a fusion; "
            "in the place of gated_fusion can come prototype_gated_fusion, weighted_sum",
        ),
        (
            {"swap": {"conflict_penalty": "halvr"}},
            "swap.conflict_penalty: no component 'halvr'; in the place of conflict_penalty can come agm, cggm, halver, "
            "mmpareto, ogm_ge, shapley_modulation. Did you mean 'halver'?",
        ),
        (
            {"config": {"halver": {}}},
            "config: conflict_penalty and halver are both present, but one rule at a time balances the gradients; "
            "remove one (null), or swap it: {conflict_penalty: halver}",
        ),
    ],
    ids=["across seams", "misspelt", "two rules"],
)
def test_what_cannot_be_is_one_line_that_names_what_can(
    corpus: CorpusInfo, changes: dict[str, Any], fault: str
) -> None:
    assert fault_of(corpus, **changes) == fault


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import nothing_of_this_name\n", "it cannot be imported (ModuleNotFoundError"),
        ("x = = 1\n", "it cannot be imported (SyntaxError"),
        ("'Nothing.'\n", "it defines no component of its name"),
    ],
    ids=["an import that fails", "no Python", "nothing in it"],
)
def test_a_file_that_gives_no_component_says_why_when_it_is_asked_for_and_stops_nothing_else(
    corpus: CorpusInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    name = f"broken_{len(text)}"  # a module that was imported once stays
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(msa_models.components, "__path__", [*msa_models.components.__path__, str(tmp_path)])
    assert len(asked(corpus).studies) == 1
    expected = f"swap.conflict_penalty: the component {name} cannot be used: {why}"
    assert fault_of(corpus, swap={"conflict_penalty": name}).startswith(expected)
    assert why in fault_of(corpus, config={name: {}})
