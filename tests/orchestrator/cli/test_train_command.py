"""`msa train`: one configuration in this process, and the trials of a storage trained again bit for bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.run.one_training import differs
from orchestrator.store import Store
from tests.end_to_end.without_ray import without_ray

TINY = ("--set", "data.options={num_train: 32, num_valid: 16, num_test: 16, layout: utterances}")
SEARCH = (
    *("--set", "space={training.learning_rate: {choices: [1e-3, 1e30]}}", "--set", "training.gradient_clip=null"),
    *("--set", "search.sampler=random", "--set", "confirm.seeds=1", "--trials", "4", "--epochs", "3"),
    *("--set", "search.pruner={kind: asha, min_epochs: 1, reduction: 2}"),
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A search of which some trials are complete and others fail of infinite losses, and one confirmed."""
    uri = str(tmp_path_factory.mktemp("train") / "runs")
    assert without_ray("sweep", "cpsl", "--storage", uri, *TINY, *SEARCH) == 1
    return uri


def rows(uri: str) -> list[dict[str, Any]]:
    return Store.open(uri).trials().to_pylist()


def train(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["train", *arguments])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.slow
def test_an_experiment_is_trained_once_without_a_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("cpsl", *TINY, "--epochs", "2", "--set", "encoder.width=16", "--seed", "3")
    assert train(*asked, "--out", "model.safetensors") == 0
    said = capsys.readouterr()
    first, searched, *_ = said.err.splitlines()
    assert first == "full (cpsl) on synthetic, text+audio+vision, seed 3, 2 epochs on cpu"
    assert searched.startswith("searched: ")
    assert "encoder.width" not in searched
    epochs = [line for line in said.out.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in epochs] == ["1", "2"]
    assert "valid/mae" in epochs[0]
    assert max(map(len, said.out.splitlines())) <= 80
    assert [line.split() for line in said.out.splitlines() if "valid" in line.split()] == [["valid"]]
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert train(*asked, "--out", "model.safetensors") == 2  # before anything is trained
    assert "is there already" in capsys.readouterr().err
    assert train(*asked, "--out", "nowhere/model.safetensors") == 2
    assert "nowhere is no folder that takes a file" in capsys.readouterr().err
    assert train(*asked, "--test") == 0
    again = capsys.readouterr().out
    assert [line.split() for line in again.splitlines() if "valid" in line.split()] == [["valid", "test"]]
    assert [line for line in again.splitlines() if line.startswith("epoch ")] == epochs


@pytest.mark.slow
def test_a_trial_with_other_values_is_compared_with_nothing_and_says_so(
    storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = next(row["trial_id"] for row in rows(storage) if row["state"] == "COMPLETE")
    for change in (("--epochs", "1"), ("--seed", "5"), ("--set", "training.batch_size=16")):
        assert train("--trial", f"{storage}#{trial}", *change) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert f"with other values than {trial} had: its curve is not compared with the stored one" in said


def test_what_no_method_of_several_has_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("balance", "--set", "nope=1") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: --set nope: config.nope: no such parameter; the method has encoder, training, ")


@pytest.mark.slow
def test_a_trial_of_a_storage_is_trained_again_bit_for_bit(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in Path(storage).rglob("*") if path.is_file()}
    finished = {row["phase"]: row for row in rows(storage) if row["state"] == "COMPLETE"}
    assert set(finished) == {"search", "confirm"}
    for row in finished.values():
        assert train("--trial", f"{storage}#{row['trial_id']}") == 0
        said = capsys.readouterr()
        assert said.err.endswith(f"bit for bit the curve that is stored, {row['epochs']} epochs\n")
        assert f"valid/mae {row['value']:.4f}, the best, at epoch {row['best_epoch']}" in said.out
    assert train("--storage", storage, "--trial", finished["confirm"]["trial_id"], "--seed", "99", "--epochs", "1") == 0
    assert "bit for bit" not in capsys.readouterr().err  # another seed is another trial
    assert {path: path.read_bytes() for path in Path(storage).rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_curve_that_is_not_the_stored_one_is_told_where(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = [row for row in rows(storage) if row["phase"] == "confirm"]
    store = Store.open(storage)
    curve = store.measurements([row["trial_id"]]).to_pylist()
    other = [*curve[:1], {**curve[1], "valid/mae": curve[1]["valid/mae"] + 1e-9}, *curve[2:]]
    assert differs(curve, curve) == ""
    assert differs(curve, other).startswith("epoch 2: valid/mae is ")
    assert differs(curve[:2], curve) == "2 epochs here and 3 there"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "measurements", lambda self, ids: type("Table", (), {"to_pylist": lambda _: other})())
        assert train("--trial", f"{storage}#{row['trial_id']}") == 1
    err = capsys.readouterr().err
    assert "the curve is not the stored one, epoch 2: valid/mae is" in err
    assert "go on with" not in err  # it would come out the same


@pytest.mark.slow
def test_what_a_failed_trial_raises_is_told_or_goes_through_to_a_debugger(
    storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = next(row for row in rows(storage) if row["state"] == "FAIL")
    assert train("--trial", f"{storage}#{failed['trial_id']}") == 1
    err = capsys.readouterr().err
    assert f"error: {failed['error_type']}: {failed['error_message']}" in err
    assert "go on with" not in err
    from msa_models.step import NonFiniteLoss  # imports torch

    with pytest.raises(NonFiniteLoss, match=re.escape(failed["error_message"])):
        main(["--debug", "train", "--trial", f"{storage}#{failed['trial_id']}"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected one of: EXPERIMENT, or --trial STORAGE#TRIAL"),
        (("cpsl", "--trial", "x#y"), "expected one of: EXPERIMENT, or --trial STORAGE#TRIAL"),
        (("--trial", "y"), "got --trial y, expected STORAGE#TRIAL, or --storage STORAGE --trial TRIAL"),
        (("cpsl", "--storage", "x"), "--storage has an effect only with --trial"),
        (("balance", *TINY, "--study", "ogmge"), "Did you mean 'ogm_ge'?"),
        (("cpsl", *TINY, "--set", "training.epoch=3"), "Did you mean"),
        (("--trial", "{storage}#x"), "no trial 'x' in"),
        (("--trial", "{storage}#full/0", "--set", "training.epoch=3"), "Did you mean 'training.epochs'?"),
        (("--trial", "{storage}#full/0", "--set", "training.epochs"), "expected path=value"),
        (("--trial", "{storage}#full/0", "--study", "full"), "--study has an effect only with EXPERIMENT"),
    ],
)
def test_bad_input_is_one_clear_line(
    storage: str, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*(word.format(storage=storage) if "storage" in word else word for word in arguments)) == 2
    assert message in capsys.readouterr().err
