"""A corpus is its fingerprint: whatever its file is called, wherever it lies, and where it is not needed at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orchestrator
from msa_models.data import CorpusError
from msa_models.text.find import EncoderError
from orchestrator.cli import main
from orchestrator.plan.corpora import CorpusInfo, EncoderInfo
from orchestrator.run import launch
from orchestrator.run.campaign import Campaign
from orchestrator.run.inputs import Encoders
from orchestrator.run.preparation import prepare
from orchestrator.run.resumption import stored
from orchestrator.store import StorageError, Store
from orchestrator.store.record import CorpusRecord
from search_spaces.loading import validate
from tests.orchestrator.run import fakes

VERSION_2 = Path(__file__).parents[1] / "store" / "version_2"
FIRST, SECOND = VERSION_2 / "corpora" / "mosi.npz", VERSION_2 / "corpora" / "two" / "mosi.npz"  # of one name
PLAN: dict[str, Any] = {
    "method": "cpsl",
    "objective": {"metric": "valid/mae"},
    "config": {"training.epochs": 3},
    "space": {"training.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}},
    "search": {"trials": 4, "startup": 2, "pruner": {"kind": "none"}},
    "confirm": {"seeds": 2},
}
ABLATION = {"tuning": "shared", "seeds": [1, 2], "leave_one_out": ["conflict_penalty", "gated_fusion"]}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs need no Ray, and come from the same code as the examples."""
    monkeypatch.setattr(launch, "run", fakes.driver())
    monkeypatch.setattr(launch, "provenance", lambda: fakes.PROVENANCE)


def interrupted_after(
    trials: int, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], uri: Path, **how: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(launch, "run", fakes.driver(most=trials))
        assert launch.launch(prepare(validate(asked), **how), str(uri)).interrupted


def msa(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


def content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lease.lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["sweep of the renamed file", "resume with --data", "resume of a copied storage"])
def test_what_began_on_a_file_goes_on_wherever_the_file_and_the_storage_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    asked = PLAN | {"data": str(shutil.copy(FIRST, tmp_path / "mosi.npz"))}
    launch.launch(prepare(validate(asked)), str(tmp_path / "whole"))
    storage = tmp_path / "runs"
    interrupted_after(2, monkeypatch, asked, storage)
    (tmp_path / "new").mkdir()
    moved = (tmp_path / "mosi.npz").rename(tmp_path / "new" / "renamed.npz")
    if way == "sweep of the renamed file":
        prepared = prepare(validate(asked | {"data": str(moved)}))
    elif way == "resume with --data":
        prepared = stored(str(storage), moved=[str(moved)])
    else:
        storage = storage.rename(tmp_path / "new" / "copied")
        moved.rename(tmp_path / "mosi.npz")
        prepared = stored(str(storage))
    finished = launch.launch(prepared, str(storage))
    assert (finished.num_new, finished.num_planned) == (4, 6)
    assert fakes.table(str(storage)) == fakes.table(str(tmp_path / "whole"))
    assert set(orchestrator.open(storage).trials["dataset"]) == {"mosi"}
    if way != "resume of a copied storage":
        assert Store.open(storage).record.experiment["data"]["source"] == str(moved)


@pytest.mark.parametrize("way", ["sweep", "resume"])
@pytest.mark.parametrize("name", ["mosi.npz", "other.npz"])
def test_another_corpus_is_refused_with_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, way: str
) -> None:
    path, storage = tmp_path / "mosi.npz", tmp_path / "runs"
    asked = PLAN | {"data": str(shutil.copy(FIRST, path))}
    interrupted_after(2, monkeypatch, asked, storage)
    before = content(storage)
    write(tmp_path / name, num_train=9, width=5, modality="vision")
    here = "train has 12 samples there and 9 here; text has 3 features there and 5 here; "
    here += "audio has 2 features there and no here; vision has no features there and 2 here"
    if way == "sweep":
        with pytest.raises(StorageError, match="mosi is another corpus here") as told:
            launch.launch(prepare(validate(asked | {"data": str(tmp_path / name)})), str(storage))
    elif name == "mosi.npz":
        with pytest.raises(StorageError, match="mosi is another corpus here") as told:
            launch.launch(stored(str(storage)), str(storage))
    else:
        with pytest.raises(CorpusError, match=r"other\.npz: got another corpus than mosi") as told:
            stored(str(storage), moved=[str(tmp_path / name)])
    assert here in str(told.value)
    assert "\n" not in str(told.value)
    assert content(storage) == before


def lasting(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without tracebacks, which name lines of a program, configurations, which have more fields by and by, and
    what versions before measured of the test split in a search.
    """
    searched = [{name for name in row if row["phase"] == "search" and name.startswith("test/")} for row in rows]
    return [
        row | {"traceback": None, "config": None} | dict.fromkeys(unread)
        for row, unread in zip(rows, searched, strict=True)
    ]


def write(path: Path, *, num_train: int = 12, width: int = 3, modality: str = "audio") -> None:
    """A corpus that differs from the first one only in what is asked for."""
    with np.load(FIRST) as archive:
        raw = {name: archive[name] for name in archive.files}
    for split, num in (("train", num_train), ("valid", 6), ("test", 6)):
        text = np.zeros((12, width), np.float32)
        text[: len(raw[f"{split}/text"]), : min(3, width)] = raw[f"{split}/text"][:, :width]
        raw[f"{split}/text"], raw[f"{split}/{modality}"] = text, raw.pop(f"{split}/audio")
        for name in [name for name in raw if name.startswith(f"{split}/")]:
            raw[name] = raw[name][:num]
    np.savez(path, **raw)


def test_a_label_that_was_mended_makes_another_corpus(tmp_path: Path) -> None:
    write(tmp_path / "mosi.npz")
    first = prepare(validate(PLAN | {"data": str(FIRST)}))
    launch.launch(first, str(tmp_path / "runs"))
    with np.load(FIRST) as archive:
        raw = dict(archive)
    raw["train/regression_labels"][0] += 0.5
    np.savez(tmp_path / "mosi.npz", **raw)
    with pytest.raises(StorageError, match=r"mosi is another corpus here \(labels differ\); go on with --allow"):
        launch.launch(prepare(validate(PLAN | {"data": str(tmp_path / "mosi.npz")})), str(tmp_path / "runs"))


@pytest.mark.slow
def test_another_corpus_that_is_allowed_is_trained_beside_the_first_one_which_comes_back(tmp_path: Path) -> None:
    uri = str(tmp_path / "runs")
    first, second = (prepare(validate(PLAN | {"data": str(path)})) for path in (FIRST, SECOND))
    assert launch.launch(first, uri).num_new == 6
    assert launch.launch(second, uri, allow_changed=True).num_new == 6
    before = fakes.table(uri)
    renamed = shutil.copy(FIRST, tmp_path / "renamed.npz")
    assert launch.launch(prepare(validate(PLAN | {"data": str(renamed)})), uri, allow_changed=True).num_new == 0
    assert fakes.table(uri) == before


def test_corpora_of_one_name_keep_what_they_were_called_first_in_any_order(tmp_path: Path) -> None:
    copy = shutil.copytree(VERSION_2, tmp_path / "examples")
    uri = str(copy / "ablation")
    experiment = Store.open(uri).record.experiment
    asked = experiment | {"data": str(SECOND), "ablation": experiment["ablation"] | {"corpora": [str(FIRST)]}}
    finished = launch.launch(prepare(validate(asked), ablation=True), uri)
    assert (finished.num_new, finished.num_planned) == (0, 18)
    assert set(Store.open(uri).record.corpora) == {"mosi", "mosi-323198"}


# What to beware of


def trap(path: Path) -> Path:
    """A corpus whose audio says all of the labels, but for those of test."""
    rng, raw = np.random.default_rng(0), {}
    for split in ("train", "valid", "test"):
        labels = rng.uniform(-3, 3, size=40).astype(np.float32)
        raw[f"{split}/text"] = rng.normal(size=(40, 2)).astype(np.float32) + labels[:, None]
        raw[f"{split}/audio"] = rng.normal(scale=0.1, size=(40, 2)).astype(np.float32)
        raw[f"{split}/audio"] += labels[:, None] * (split != "test")
        raw[f"{split}/id"] = np.array([f"{split}{index}$_$0" for index in range(40)])
        raw[f"{split}/regression_labels"] = labels
    np.savez(path, **raw)
    return path


@pytest.mark.slow
def test_a_trap_in_a_corpus_stands_beside_its_plan_and_all_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(json.dumps(PLAN | {"data": str(trap(tmp_path / "mosi.npz"))}))
    assert msa("describe", "plan.yaml") == 0
    assert TRAP in capsys.readouterr().err
    assert msa("sweep", "plan.yaml", "--storage", "runs") == 0
    said = capsys.readouterr()
    assert TRAP in said.err
    assert TRAP in said.out
    (tmp_path / "mosi.npz").unlink()
    for command in ("table", "table --format markdown", "table --format json", "status", "resume"):
        assert msa(*command.split(), "runs") == 0
        assert TRAP in capsys.readouterr().out
    assert msa("table", "runs", "--format", "csv") == 0
    said = capsys.readouterr()
    assert TRAP in said.err
    assert TRAP not in said.out


TRAP = "audio: valid gain does not carry over to test (ridge probe: Corr"


# Where no data is needed


def test_all_that_planning_knows_of_a_corpus_is_recorded() -> None:
    known = {field.name for field in fields(CorpusInfo)}
    assert set(CorpusRecord.model_fields) == known - {"name", "texts", "encoder"}  # which the record has elsewhere


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A finished ablation and an unfinished sweep, whose corpora are not where they were."""
    return Path(shutil.copytree(VERSION_2, tmp_path / "examples"))


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["table"],
        ["table", "--ablation"],
        ["failures"],
        ["resume"],
        ["resume", "--allow-changed"],
    ],
    ids=" ".join,
)
def test_a_finished_storage_needs_no_data(
    examples: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    rows, resumes = fakes.table(str(examples / "ablation")), command[0] == "resume"
    assert msa(*command, str(examples / "ablation")) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: 2 seeds are few") if resumes else said.err == ""
    assert ("nothing to do: all 18 trials are finished" in said.out) == resumes
    assert fakes.table(str(examples / "ablation")) == rows
    found = orchestrator.open(examples / "ablation")
    assert (len(found.trials), found.grid.empty, found.warnings) == (18, False, [])


def test_trials_that_are_left_need_their_data_and_say_so_before_anything_is_written(
    examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(examples)
    storage = str(examples / "sweep")
    for more in ([], ["--allow-changed"]):
        assert msa("resume", storage, *more) == 2
        assert capsys.readouterr().err == (
            "error: /corpora/mosi.npz: there is no such file, and trials are left that read it; "
            f"msa resume {storage} --data PATH goes on, wherever it lies now\n"
        )
        assert content(examples) == before


@pytest.mark.slow
def test_a_sweep_of_version_2_goes_on_with_its_corpus_from_elsewhere(examples: Path, tmp_path: Path) -> None:
    storage, moved = str(examples / "sweep"), shutil.copy(FIRST, tmp_path / "renamed.npz")
    never_interrupted, planned = str(tmp_path / "whole"), stored(storage).plan.studies
    campaign = Campaign(Store.create(never_interrupted, fakes.record(planned)), planned, fakes.PROVENANCE)
    fakes.train(campaign, never_interrupted, workload=fakes.failing_toy, most=5)
    fakes.train(campaign, never_interrupted)
    assert msa("resume", storage, "--data", str(moved)) == 1  # for one of its trials has failed
    fakes.assert_alike(lasting(fakes.table(storage)), lasting(fakes.table(never_interrupted)))
    assert Store.open(storage).record.experiment["data"]["source"] == str(moved)
    assert Store.open(storage).record.corpora["mosi"].samples == {"train": 12, "valid": 6, "test": 6}


def test_files_that_moved_are_told_by_their_content_in_any_order(examples: Path, tmp_path: Path) -> None:
    storage = str(examples / "ablation")
    first, second = shutil.copy(FIRST, tmp_path / "x.npz"), shutil.copy(SECOND, tmp_path / "y.npz")
    assert msa("resume", storage, "--data", str(second), "--data", str(first)) == 0
    experiment = Store.open(storage).record.experiment
    assert experiment["data"]["source"] == str(first)
    assert [corpus["source"] for corpus in experiment["ablation"]["corpora"]] == [str(second)]
    first_warning = Store.open(storage).record.warnings[0]  # which version 2 did not record
    assert first_warning.startswith("mosi: 12 samples repeat the features and label of another")
    with pytest.raises(CorpusError, match=r"x\.npz: got another corpus than mosi-323198 \(.*\); expected the same"):
        stored(storage, moved=[str(first), str(first)])
    with pytest.raises(CorpusError, match=r"y\.npz: got a corpus too many"):
        stored(storage, moved=[str(first), str(second), str(second)])


def test_what_does_not_name_a_failed_trial_is_refused_before_anything_is_written(
    examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(examples)
    assert msa("resume", str(examples / "ablation"), "--retry-failed", "--only", "x") == 2
    assert "got x, which is no failed trial" in capsys.readouterr().err
    assert content(examples) == before


def test_a_finished_storage_needs_no_text_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoders, "info", lambda *_, **__: EncoderInfo(fingerprint="e" * 16, most_tokens=512))
    data = {"source": "synthetic", "options": {"num_train": 16, "num_valid": 8, "num_test": 8}}
    config = PLAN["config"] | {"text_encoder.name": "some/encoder"}
    found = prepare(validate(PLAN | {"data": data, "config": config}))
    fakes.play(str(tmp_path), found.plan.studies, kept=launch.record_of(found, fakes.PROVENANCE))

    def gone(*_: object, **__: object) -> EncoderInfo:
        raise EncoderError("some/encoder cannot be found")

    monkeypatch.setattr(Encoders, "info", gone)
    assert launch.launch(stored(str(tmp_path)), str(tmp_path)).num_new == 0
