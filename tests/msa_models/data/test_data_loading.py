"""`load`: one door, whose errors name the source and suggest what was meant."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msa_models.data import CorpusError, load
from msa_models.data.convert import convert

Raw = dict[str, dict[str, Any]]


def test_the_task_argument_overrules_the_task_among_the_options() -> None:
    corpus = load("synthetic", task="regression", options={"task": "classification", "num_train": 20})
    assert corpus.task == "regression"
    assert corpus.warnings == ("options.task: classification is overruled by task: regression",)
    agreed = load("synthetic", task="classification", options={"task": "classification", "classes": 4})
    assert (agreed.task, agreed.num_outputs, agreed.warnings) == ("classification", 4, ())


def test_options_reach_the_synthetic_corpus() -> None:
    corpus = load("synthetic", options={"num_train": 11, "layout": "utterances", "nuisance": True})
    assert len(corpus.splits["train"]) == 11
    assert not corpus.sequence("nuisance")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "regresion"}, r"no task 'regresion'; known are .*Did you mean 'regression'\?"),
        ({"nonfinite": "zeros"}, r"no nonfinite 'zeros'; known are refuse, zero. Did you mean 'zero'\?"),
        ({"scale": "mosei"}, r"no scale 'mosei'; known are auto, mosi, sims. Did you mean 'mosi'\?"),
        ({"options": {"step": 3, "seeds": 1}}, r"no option 'step'; .*mean 'steps'\?; no option 'seeds'; .*'seed'\?"),
        ({"options": {"steps": 0}}, "options: steps is 0; expected a whole number, at least 1"),
        ({"target": "happy"}, "target: happy is for corpora with emotion labels"),
    ],
)
def test_a_wrong_argument_is_answered_with_the_right_ones(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=f"synthetic: {message}") as caught:
        load("synthetic", **arguments)
    assert "\n" not in str(caught.value)


def test_a_misspelt_source_is_answered_with_what_was_probably_meant(mmsa: Raw, save: Callable[..., str]) -> None:
    path = Path(save(mmsa, "mosei.pkl"))
    with pytest.raises(CorpusError, match=r"syntetic: there is no such file, .*Did you mean 'synthetic'\?"):
        load("syntetic")
    with pytest.raises(CorpusError, match=r"Did you mean 'mosei\.pkl'\?"):
        load(path.with_name("moesi.pkl"))
    with pytest.raises(CorpusError, match="there is no such file"):
        load(path.parent / "no folder" / "x.pkl")


def test_a_link_to_nowhere_says_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "corpus.pkl").symlink_to("moved.pkl")
    with pytest.raises(CorpusError, match=r"it is a link to moved\.pkl, and no file is there"):
        load(tmp_path / "corpus.pkl")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "corpus.pkl")
    with pytest.raises(CorpusError, match="it is neither a file nor a folder"):
        load(tmp_path / "corpus.pkl")


def test_a_name_that_the_system_does_not_take_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there is no such file"):
        load(tmp_path / f"{300 * 'a'}.pkl")
    with pytest.raises(CorpusError, match="it cannot be opened: File name too long"):
        convert(tmp_path / f"{300 * 'a'}.pkl", tmp_path / "corpus.npz")


def test_options_are_refused_for_a_file(mmsa: Raw, save: Callable[..., str]) -> None:
    with pytest.raises(CorpusError, match=r"options \(seed\) are for source 'synthetic'"):
        load(save(mmsa), options={"seed": 1})


def test_a_corpus_error_is_a_value_error() -> None:
    assert issubclass(CorpusError, ValueError)


@pytest.mark.slow
def test_loading_and_describing_import_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from msa_models.data import load; from msa_models.data.describe import describe; "
        "describe(load('synthetic', options={'num_train': 20})); "
        "print(sorted({'torch', 'ray', 'optuna', 'pyarrow', 'pydantic', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
