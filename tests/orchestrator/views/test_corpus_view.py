"""What `msa data describe` shows of a corpus: what one must know first, in 80 columns."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from msa_models.data import load
from msa_models.data.describe import describe
from orchestrator.cli import main
from orchestrator.views.corpus_view import corpus
from tests.msa_models.data.conftest import build_mmsa

SMALL = {"num_train": 40, "num_valid": 20, "num_test": 20}


def shown(full: bool = False, warnings: tuple[str, ...] = (), task: str = "regression", **options: Any) -> str:
    facts = describe(load("synthetic", task=task, options=SMALL | options))
    return corpus(facts | {"warnings": list(warnings)}, full=full)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("layout", ["sequences", "utterances"])
def test_a_corpus_with_four_modalities_and_long_warnings_fits_80_columns(task: str, layout: str) -> None:
    text = shown(warnings=("word " * 50,), task=task, layout=layout, nuisance=True, nuisance_width=1234, steps=100)
    assert max(map(len, text.splitlines())) <= 80
    assert "nuisance" in text


def test_what_one_must_know_comes_first_and_warnings_before_what_they_are_read_from() -> None:
    text = shown(warnings=("beware",), vision_width=19)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    start, *found = (
        next(line for line in lines if line.startswith("synthetic: regression (scale mosi), fingerprint ")),
        "samples 40 20 20",
        next(line for line in lines if line.startswith("vision sequences 19 6 / ")),
        "warning: beware",
        "What a ridge regression makes of each modality (train: of other videos):",
        next(line for line in lines if line.startswith("all ")),
    )
    assert lines[0] == start
    assert [lines.index(line) for line in found] == sorted(lines.index(line) for line in found)


def test_a_modality_says_how_many_of_its_columns_are_constant() -> None:
    facts = describe(load("synthetic", options=SMALL))
    assert "constant" not in corpus(facts)
    for row in facts["features"]:
        row["constant_share"] = 0.25 if row["modality"] == "audio" else 0.0
    lines = [line.split() for line in corpus(facts).splitlines()]
    assert ["", "kind", "width", "constant"][1:] in [line[:3] for line in lines]
    assert ["audio", "sequences", "16", "4"] in [line[:4] for line in lines]


def test_a_modality_says_whether_it_has_labels_of_its_own() -> None:
    facts = describe(load("synthetic", options=SMALL))
    assert "own labels" not in corpus(facts)
    for row in facts["features"]:
        row["own_labels"] = row["modality"] == "vision"
    lines = [line.split() for line in corpus(facts).splitlines()]
    assert ["vision", "sequences", "20", "yes"] in [line[:4] for line in lines]
    assert "yes" not in next(line for line in lines if line[:1] == ["audio"])


def test_many_classes_are_counted_and_shown_in_full_only_when_asked_for() -> None:
    text = shown(task="classification", classes=30)
    assert "class_19" in text
    assert "class_20" not in text
    assert "(10 more: --full)" in text
    assert "class 29" in shown(full=True, task="classification", classes=30)


@pytest.mark.slow
def test_the_wide_tables_come_on_request() -> None:
    assert "sd max" not in shown()
    full = shown(full=True)
    assert full.startswith(shown())
    assert "sd max" in full
    assert "text+audio+vision" in full


def test_a_corpus_without_features_is_described_by_what_it_has() -> None:
    facts = describe(load("synthetic", options=SMALL)) | {"features": [], "probes": []}
    for full in (False, True):
        assert "samples" in corpus(facts, full=full)


@pytest.mark.slow
def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", "describe", "synthetic", "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == describe(load("synthetic"))


def test_a_file_without_a_valid_split_is_described_with_a_share_of_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = build_mmsa()
    del raw["valid"]
    path = tmp_path / "mosi.pkl"
    path.write_bytes(pickle.dumps(raw))
    with pytest.raises(SystemExit) as ended:
        main(["data", "describe", str(path), "--valid-share", "0.3", "--json"])
    assert ended.value.code == 0
    counts = [row["samples"] for row in json.loads(capsys.readouterr().out)["labels"]]
    assert counts == [8, 4, 8]
