"""Whatever the test split holds: searches, selections and states stay as they are, bit for bit."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from msa_models import data
from msa_models.data.corpus import Corpus
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.plan.studies import Study
from orchestrator.run.workload import train
from orchestrator.store.record import Record
from search_spaces.loading import validate
from tests.orchestrator.run import fakes

SIZES = {"num_train": 32, "num_valid": 16, "num_test": 12, "layout": "utterances"}
WIDTHS = {"text_width": 5, "audio_width": 4, "vision_width": 3}
OBJECTIVES = {"regression": "valid/mae", "classification": "valid/f1_weighted"}


@functools.cache
def corpus(task: str) -> Corpus:
    return data.load("synthetic", task=task, options=SIZES | WIDTHS).standardised()


def studies(on: Corpus) -> tuple[Study, ...]:
    """Six trials of three epochs, pruned after one, and two confirm seeds."""
    experiment = {
        "method": "cpsl",
        "data": {"source": "synthetic", "task": on.task},
        "objective": {"metric": OBJECTIVES[on.task]},
        "config": {"encoder.width": 8, "encoder.heads": 2, "training.batch_size": 16, "training.epochs": 3},
        "space": {"training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}},
        "search": {"trials": 6, "startup": 2, "pruner": {"min_epochs": 1, "reduction": 3}},
        "confirm": {"seeds": 2},
    }
    return plan(validate(experiment), CorpusInfo.of(on)).studies


def play(uri: str, on: Corpus) -> list[dict[str, Any]]:
    """The trials of it in one slot, for a storage with the metrics of its task."""
    planned, info = studies(corpus(on.task)), CorpusInfo.of(on)
    plain = {"identity": [study.study_id for study in planned], "metrics": list(info.metrics)}
    plain |= {"experiment": {"objective": {"metric": OBJECTIVES[on.task]}}, "direction": planned[0].direction}
    fakes.play(uri, planned, workload=train, kept=Record.of(plain), on=on)
    return fakes.table(uri)


@pytest.fixture(scope="module", params=OBJECTIVES)
def task(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def rows(task: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The trials on the corpus as it is."""
    return play(str(tmp_path_factory.mktemp(task)), corpus(task))


def test_test_columns_are_filled_for_confirm_trials_alone(rows: list[dict[str, Any]]) -> None:
    assert {row["state"] for row in rows} == {"COMPLETE", "PRUNED"}
    assert [row["phase"] for row in rows] == ["search"] * 6 + ["confirm"] * 2
    for row in rows:
        filled = [value is not None for name, value in row.items() if name.startswith("test/")]
        assert set(filled) == {row["phase"] == "confirm"}
