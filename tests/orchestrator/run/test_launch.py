"""What a storage remembers of where things lie, and what it never hears of."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from statsmodels.stats.power import TTestPower

from orchestrator.run import launch, provenance
from orchestrator.run.preparation import prepare
from orchestrator.run.resumption import stored
from orchestrator.run.workload import train
from orchestrator.store import Files, StorageError, Store
from search_spaces.loading import validate
from tests.end_to_end.test_readme import write_corpus
from tests.orchestrator.run import fakes
from tests.tiny_encoders import bert


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An experiment that names its corpus by a path relative to the working folder."""
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "mosi.pkl")
    return {"method": "concat", "data": "mosi.pkl", "objective": {"metric": "valid/mae"}}


@pytest.mark.parametrize("job", [False, True], ids=["here", "as a job"])
def test_paths_are_recorded_whole_but_for_a_job_whose_folder_is_another_each_time(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: bool
) -> None:
    if job:
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    record = launch.record_of(prepare(validate(asked)))
    assert record.experiment["data"]["source"] == ("mosi.pkl" if job else str(tmp_path / "mosi.pkl"))


@pytest.mark.parametrize("job", [False, True], ids=["here", "as a job"])
def test_so_are_those_of_text_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: bool) -> None:
    monkeypatch.chdir(tmp_path)
    bert(tmp_path / "own")
    if job:
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    asked = {"method": "concat", "data": "synthetic", "objective": {"metric": "valid/mae"}}
    found = prepare(validate(asked | {"config": {"text_encoder": {"name": "./own"}}}))
    assert list(launch.record_of(found).encoders) == ["./own" if job else str(tmp_path / "own")]


def test_credentials_in_the_command_line_are_refused_before_anything_is_written(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "s3://me:hush@bucket/x"
    monkeypatch.setattr(sys, "argv", ["msa", "sweep", "concat", f"--storage={secret}", "--storage", "runs/x"])
    with pytest.raises(StorageError, match="credentials in its URI is refused") as told:
        launch.launch(prepare(validate(asked)), str(tmp_path / "runs" / "x"))
    assert "hush" not in str(told.value)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was read, each folder listed, and the code looked at, from here on."""
    counts: Counter[str] = Counter()
    read, infos, fingerprint = Files.read, Files._infos, provenance.code_fingerprint
    monkeypatch.setattr(Files, "read", lambda self, path, **how: counts.update([path]) or read(self, path, **how))
    monkeypatch.setattr(Files, "_infos", lambda self, folder: counts.update([f"{folder}/"]) or infos(self, folder))
    monkeypatch.setattr(provenance, "code_fingerprint", lambda: counts.update(["code"]) or fingerprint())
    return counts


SMALL = {
    "method": "concat",
    "data": {
        "source": "synthetic",
        "options": {"num_train": 32, "num_valid": 16, "num_test": 16, "layout": "utterances"},
    },
    "objective": {"metric": "valid/mae"},
    "config": {"training.epochs": 1},
    "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    "search": {"trials": 2},
    "confirm": {"seeds": 1},
}


def test_what_a_resume_needs_to_know_it_looks_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at: Counter[str]
) -> None:
    found, uri = prepare(validate(SMALL)), str(tmp_path)
    (on,) = found.corpora.values()
    origin = provenance.provenance()
    fakes.play(uri, found.plan.studies, workload=train, on=on, kept=launch.record_of(found, origin), origin=origin)
    monkeypatch.setattr(Store, "compact", lambda *_, **__: [])  # at the end, when the list is another one
    looked_at.clear()
    finished = launch.launch(stored(uri), uri)
    assert (finished.num_new, finished.num_planned) == (0, 3)
    assert looked_at["experiment.json"] == 1
    assert looked_at["trials/"] == 1
    assert looked_at["code"] == 1
    assert [path for path, times in looked_at.items() if path.startswith("trials/") and times > 1] == []


@pytest.mark.slow
def test_a_resume_says_which_damaged_row_it_trains_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, uri = prepare(validate(SMALL)), str(tmp_path)
    (on,) = found.corpora.values()
    origin = provenance.provenance()
    fakes.play(uri, found.plan.studies, workload=train, on=on, kept=launch.record_of(found, origin), origin=origin)
    damaged = sorted((tmp_path / "trials").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    monkeypatch.setattr(launch, "run", fakes.driver(train, reads=True))
    said: list[str] = []
    monkeypatch.setattr(launch.Silent, "say", lambda self, line: said.append(line))
    assert launch.launch(stored(uri), uri).num_new == 1
    assert [damaged.name in line and "before a resume trains its trial again" in line for line in said] == [True]


def test_a_storage_that_another_driver_extended_meanwhile_keeps_what_that_one_planned(tmp_path: Path) -> None:
    two: Any = {"studies": {"small": {"config": {"encoder.width": 16}}, "large": {}}}
    uri = str(tmp_path)
    first = prepare(validate(SMALL))
    (on,) = first.corpora.values()
    origin = provenance.provenance()
    fakes.play(uri, first.plan.studies, workload=train, on=on, kept=launch.record_of(first, origin), origin=origin)
    resumed = stored(uri)
    more = prepare(validate(SMALL | two))
    identity = {study.study_id for study in (*first.plan.studies, *more.plan.studies)}
    Store.create(uri, launch.record_of(more, origin), allow_changed=True)
    with pytest.raises(StorageError, match="holds another experiment"):
        launch.launch(resumed, uri)
    assert {study.study_id for study in more.plan.studies} <= set(Store.open(uri).record.identity) <= identity


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": {"training.epochs": 3}}, True),
        ({"config": {"training.epochs": 2}}, True),
        ({"config": {"training.epochs": 4}}, False),
        ({"config": {"training.epochs": 3}, "search": {"pruner": {"kind": "none"}}}, False),
        ({"config": {"training.epochs": 3}, "space": {}}, False),  # nothing is searched
        ({"space": {"training.epochs": {"low": 1, "high": 3}}}, True),
        ({"space": {"training.epochs": {"low": 1, "high": 4}}}, False),
        ({"space": {"training.epochs": {"choices": [3, 2]}}}, True),
    ],
)
def test_a_search_that_ends_before_its_first_rung_says_that_nothing_will_be_pruned(
    changes: dict[str, Any], said: bool
) -> None:
    data = {"source": "synthetic", "options": {"num_train": 16, "num_valid": 8, "num_test": 8}}
    asked = {
        "method": "concat",
        "data": data,
        "objective": {"metric": "valid/mae"},
        "space": {"encoder.width": {"choices": [32, 64]}},
        "search": {"pruner": {"min_epochs": 3}},
    }
    warnings = [line for line in prepare(validate(asked | changes)).warnings if "pruned" in line]
    assert (
        warnings
        == [
            "no trial will be pruned: the first rung is at epoch 3 (search.pruner.min_epochs), where "
            f"training.epochs is {changes.get('config', {}).get('training.epochs', 3)}"
        ]
        * said
    )


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_few_units_say_what_they_can_find(number: int) -> None:
    data = {"source": "synthetic", "options": {"num_train": 16, "num_valid": 8, "num_test": 8}}
    ablation = {"tuning": "none", "seeds": list(range(number)), "leave_one_out": ["gated_fusion"]}
    asked = {"method": "cpsl", "data": data, "objective": {"metric": "valid/mae"}, "ablation": ablation}
    said = [line for line in prepare(validate(asked), ablation=True).warnings if "are few" in line]
    assert len(said) == (number < 5)
    if said:
        found = TTestPower().solve_power(nobs=number, alpha=0.05, power=0.8)
        assert said[0].startswith(f"{number} seeds are few")
        assert f"{found:.1f} standard deviations" in said[0]


def test_where_no_trial_can_be_pruned_a_command_that_plans_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    from orchestrator.cli import main

    for command in (["describe", "cpsl"], ["sweep", "cpsl", "--dry-run"]):
        with pytest.raises(SystemExit):
            main([*command, "--epochs", "2"])
        assert capsys.readouterr().err.startswith("warning: no trial will be pruned: the first rung is at epoch 9")
