"""Models that were kept are evaluated later as they would have been when they were trained."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli import msa
from orchestrator.run import kept_models
from orchestrator.run.kept_models import evaluate_kept
from orchestrator.run.launch import record_of
from orchestrator.run.preparation import Prepared, prepare
from orchestrator.run.provenance import provenance
from orchestrator.run.workload import train as real
from orchestrator.store import Files, Store
from orchestrator.store.experiment_file import write_record
from search_spaces.loading import validate
from tests.orchestrator.run.fakes import play

SIZES = {"num_train": 40, "num_valid": 16, "num_test": 12, "text_width": 4, "audio_width": 3, "vision_width": 3}
ASKED = {"missing_rates": [0.5, 1.0], "noise": [1.0]}


def prepared(**confirm: Any) -> Prepared:
    experiment = {
        "method": "concat",
        "data": {"source": "synthetic", "options": SIZES | {"layout": "utterances"}},
        "objective": {"metric": "valid/mae"},
        "config": {"training.epochs": 2, "encoder.width": 8, "encoder.heads": 2},
        "search": {"trials": 1},
        "confirm": {"seeds": 2, "keep": "best"} | confirm,
    }
    return prepare(validate(experiment))


def played(uri: Path, asked: Prepared) -> Store:
    (corpus,) = asked.corpora.values()
    origin = provenance()
    play(str(uri), asked.plan.studies, workload=real, kept=record_of(asked, origin), on=corpus, origin=origin)
    return Store.open(uri)


def parts(store: Store) -> dict[str, bytes]:
    return {name: store.files.read(f"robustness/{name}") for name in store.files.names("robustness")}


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return played(tmp_path_factory.mktemp("kept") / "at_once", prepared(robustness=ASKED))


@pytest.fixture
def later(at_once: Store, tmp_path: Path) -> Store:
    """The same models, of a storage that did not evaluate them."""
    for folder in ("trials", "measurements", "predictions", "models"):
        for name in at_once.files.names(folder):
            (tmp_path / "later" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "later" / folder / name).write_bytes(at_once.files.read(f"{folder}/{name}"))
    write_record(Files.at(tmp_path / "later"), record_of(prepared(), provenance()))
    return Store.open(tmp_path / "later")


def options(asked: dict[str, list[float]]) -> list[str]:
    return [f"{name}={json.dumps(values)}" for name, values in asked.items()]


@pytest.mark.slow
def test_a_model_that_was_kept_is_evaluated_later_to_the_same_bytes(at_once: Store, later: Store) -> None:
    done = evaluate_kept(later.files.uri, changes=options(ASKED))
    assert parts(later) == parts(at_once)
    assert (len(done.now), done.before, done.without_model, done.faults) == (2, (), (), ())


@pytest.mark.slow
def test_what_is_evaluated_is_left_alone_until_other_conditions_are_asked_for(at_once: Store, later: Store) -> None:
    evaluate_kept(later.files.uri, changes=options(ASKED))
    again = evaluate_kept(later.files.uri)
    assert (again.now, len(again.before)) == ((), 2)
    assert parts(later) == parts(at_once)
    evaluate_kept(later.files.uri, changes=["missing_rates=[]", "noise=[]", "missing_modalities=each"])
    assert set(later.robustness().column("kind").to_pylist()) == {"clean", "missing_modality"}
    assert later.robustness().num_rows == 2 * 4


def test_trials_without_a_model_or_with_a_damaged_one_are_named_and_the_others_evaluated(later: Store) -> None:
    first, second = (name.removesuffix(".safetensors") for name in later.files.names("models"))
    later.files.write(f"models/{first}.safetensors", b"nothing of the kind")
    run = CliRunner().invoke(
        msa, ["robustness", later.files.uri, "--set", "missing_rates=[0.5]"], standalone_mode=False
    )
    assert run.return_value == 1
    assert f"models/{first}.safetensors is damaged (it carries no digest); it is left out" in run.stderr
    assert later.files.names("robustness") == [f"{second}.parquet"]
    later.files.delete(f"models/{first}.safetensors")
    run = CliRunner().invoke(msa, ["robustness", later.files.uri], standalone_mode=False)
    assert run.return_value == 0
    assert f"without a kept model, and so left out: {first}" in run.stderr
    assert "0 models evaluated, 1 before" in run.stdout


def test_a_storage_without_models_and_conditions_that_mean_nothing_are_refused(later: Store) -> None:
    with pytest.raises(ValueError, match=r"--set noises: confirm\.robustness\.noises: .*Did you mean 'noise'"):
        evaluate_kept(later.files.uri, changes=["noises=[1]"])
    for name in later.files.names("models"):
        later.files.delete(f"models/{name}")
    with pytest.raises(ValueError, match=r"has no model of a confirmed trial; set confirm\.keep=best"):
        evaluate_kept(later.files.uri)
    assert kept_models.SECTION == "confirm.robustness"
