"""A fault that an option brings about is placed at the option, wherever what it is about is written."""

from __future__ import annotations

import pickle
import shlex
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.msa_models.data.cases import CASES

MINE = """\
method: cpsl
data: {source: synthetic, options: {num_train: 16, num_valid: 8, num_test: 8}}
objective: {metric: valid/mae}
modalities: [text, audio]
config:
  conflict_penalty.alpha: 0.5
space:
  encoder.dropout:
    low: 0.1
    high: 0.3
  training.learning_rate: {low: 1e-4, high: 1e-2, log: true}
ablation:
  modalities: [text+audio]
"""


def said(arguments: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(arguments))
    assert ended.value.code == 2
    return capsys.readouterr().err.removeprefix("error: ").splitlines()


@pytest.mark.parametrize(
    ("options", "places"),
    [
        # the file says it, the option is why it is wrong
        ("--set space.encoder.dropout.low=0.9", ["--set space.encoder.dropout.low: space.encoder.dropout: "]),
        ("--set ogm_ge={}", ["--set ogm_ge: config: "]),
        ("--set search.trials=3 --set ogm_ge={} --seed 3", ["--set ogm_ge: config: "]),
        ("--ablation --set modalities=[text]", ["--set modalities: ablation.modalities"]),
        ("--ablation --set modalities=[text] --seeds 0", ["--seeds: ablation.seeds: "]),
        # an option that is short for a --set
        ("--ablation --seeds 0", ["--seeds: ablation.seeds: "]),
        ("--ablation --tuning often", ["--tuning: ablation.tuning: "]),
        ("--ablation --components conflict_penlty", ["--components: ablation.leave_one_out.0: "]),
        # what no option can help stays where it is
        ("--set training.epochs=0", ["--set training.epochs: config.training.epochs: "]),
        ("--set search.trials=0 --set conflict_penalty.alpha=-1", ["--set search.trials: "]),
    ],
)
def test_a_fault_that_an_option_brings_about_is_placed_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: str, places: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(MINE)
    lines = said(f"describe mine.yaml {options}", capsys)
    assert len(lines) == len(places), lines
    for line, place in zip(lines, places, strict=True):
        assert line.startswith(place), lines


def test_a_fault_of_the_file_keeps_its_line_whatever_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(MINE.replace("alpha: 0.5", "alpha: -1"))
    (line,) = said("describe mine.yaml --set training.batch_size=8 --epochs 3", capsys)
    assert line.startswith("mine.yaml:6: config.conflict_penalty.alpha: ")
    Path("mine.yaml").write_text(MINE.replace("low: 0.1", "low: 0.9"))
    (line,) = said("describe mine.yaml --set training.batch_size=8 --epochs 3", capsys)
    assert line.startswith("mine.yaml:8: space.encoder.dropout: ")


def test_a_corpus_is_read_once_however_often_the_plan_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from msa_models import data

    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(MINE)
    read, load = [], data.load
    monkeypatch.setattr(data, "load", lambda source, **how: [read.append(source), load(source, **how)][1])
    said("describe mine.yaml --set ogm_ge={} --set training.epochs=3 --trials 3", capsys)
    assert len(read) == 1


def test_what_a_corpus_is_without_an_option_is_not_what_is_wrong_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Classes can be read as such only, and the objective is one of regression."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("method: concat\ndata: synthetic\nobjective: {metric: valid/mae}\n")
    Path("humor.pkl").write_bytes(pickle.dumps(CASES["humor"]()))
    (line,) = said("describe mine.yaml --data humor.pkl --set data.task=classification", capsys)
    assert "valid/mae" in line
    assert "all labels are" not in line
