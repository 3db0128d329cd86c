"""Whatever the test split holds: searches, selections and states stay as they are, bit for bit."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from msa_models import data
from msa_models.data.corpus import Corpus, Split
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.plan.studies import Study
from orchestrator.run.workload import train
from orchestrator.store import Store
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
    """Four trials of two epochs, half of them pruned after one, and a confirm seed."""
    experiment = {
        "method": "cpsl",
        "data": {"source": "synthetic", "task": on.task},
        "objective": {"metric": OBJECTIVES[on.task]},
        "config": {"encoder.width": 8, "encoder.heads": 2, "training.batch_size": 16, "training.epochs": 2},
        "space": {"training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}},
        "search": {"trials": 4, "startup": 2, "pruner": {"min_epochs": 1, "reduction": 2}},
        "confirm": {"seeds": 1},
    }
    return plan(validate(experiment), CorpusInfo.of(on)).studies


def play(uri: str, on: Corpus) -> Store:
    """All trials in one slot, as they are planned for the corpus as it is."""
    planned, info = studies(corpus(on.task)), CorpusInfo.of(on)
    plain = {"identity": [study.study_id for study in planned], "metrics": list(info.metrics)}
    plain |= {"experiment": {"objective": {"metric": OBJECTIVES[on.task]}}, "direction": planned[0].direction}
    fakes.play(uri, planned, workload=train, kept=Record.of(plain), on=on)
    return Store.open(uri)


def filled(value: float) -> Callable[[Split], Split]:
    """Every other sample has this value in one column of audio."""

    def change(test: Split) -> Split:
        inputs = {name: values.copy() for name, values in test.inputs.items()}
        inputs["audio"][::2, 1] = value
        return replace(test, inputs=inputs)

    return change


def shuffled(test: Split) -> Split:
    """Each sample has the features of another one."""
    return replace(test, inputs={name: values[::-1] for name, values in test.inputs.items()})


def relabelled(test: Split) -> Split:
    """Each sample has the label of another one."""
    return replace(test, targets=np.roll(test.targets, 1))


GARBAGE: dict[str, Callable[[Split], Split]] = {
    "NaN": filled(math.nan),
    "infinity": filled(math.inf),
    "huge values": filled(1e30),
    "shuffled features": shuffled,
    "shuffled labels": relabelled,
}


def with_garbage(on: Corpus, name: str) -> Corpus:
    return replace(on, splits=on.splits | {"test": GARBAGE[name](on.splits["test"])})


@pytest.fixture(scope="module", params=OBJECTIVES)
def task(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def sound(task: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The trials on the corpus as it is."""
    return play(str(tmp_path_factory.mktemp(task)), corpus(task))


def decided(store: Store) -> list[dict[str, Any]]:
    """The rows without what may differ: test metrics, why there are none, and times."""
    rows = fakes.table(store.files.uri)
    return [{name: row[name] for name in row if not name.startswith("test/") and name != "warning"} for row in rows]


def of_test(store: Store) -> list[list[float | None]]:
    """The test metrics of each trial."""
    rows = fakes.table(store.files.uri)
    return [[value for name, value in row.items() if name.startswith("test/")] for row in rows]


@pytest.mark.slow
def test_confirm_trials_alone_have_test_metrics(sound: Store) -> None:
    trials = sound.trials()
    assert trials["phase"].to_pylist() == ["search"] * 4 + ["confirm"]
    assert set(trials["state"].to_pylist()) == {"COMPLETE", "PRUNED"}
    assert [{value is not None for value in each} for each in of_test(sound)] == [{False}] * 4 + [{True}]


@pytest.mark.slow
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_in_test_changes_no_search_no_selection_no_state_and_no_column_but_those_of_test(
    name: str, task: str, sound: Store, tmp_path: Any
) -> None:
    found = play(str(tmp_path), with_garbage(corpus(task), name))
    assert decided(found) == decided(sound)
    assert found.measurements().equals(sound.measurements())
    *searched, confirmed = of_test(found)
    assert searched == of_test(sound)[:-1]
    assert confirmed != of_test(sound)[-1]
    if not name.startswith("shuffled"):  # the trial is COMPLETE without test metrics, and says why
        assert set(confirmed) == {None}
        said = found.trials()["warning"].to_pylist()[-1]
        assert said.startswith(
            "6 of 12 predictions of the test split are not finite, such as that of "
            f"'{corpus(task).splits['test'].ids[0]}'; its audio column 1 is "
        )
        predictions = found.predictions().to_pandas().drop(columns=["trial_id", "sample_id", "target"])
        assert np.isfinite(predictions.to_numpy()).all(axis=1).tolist() == [False, True] * 6
    else:
        assert set(found.trials()["warning"].to_pylist()) == {None}
