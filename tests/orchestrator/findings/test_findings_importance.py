"""Importances: of a search where one parameter decides, that one; nothing where there is too little to say."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, distribution_to_json

from orchestrator.findings.importance import FEWEST, importances, of_cells
from orchestrator.store.record import Record
from orchestrator.store.schema import trial_table
from orchestrator.views.table import render
from orchestrator.views.trial_tables import importance as table
from tests.orchestrator.findings import ablations

SPACE = {
    "training.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "encoder.width": IntDistribution(16, 64),
    "gate.kind": CategoricalDistribution(["tanh", "relu"]),
}


def record(direction: str = "minimize", names: tuple[str, ...] = ("full",), num_trials: int = 0) -> Record:
    made = ablations.record(names)
    made["direction"] = direction
    for study in made["studies"].values():
        study["space"] = {path: distribution_to_json(each) for path, each in SPACE.items()}
        study["planned"] = {"search": num_trials, "confirm": 5}
    return Record.of(made)


def trials(make_row: Callable[..., dict[str, Any]], num: int, *, sign: float = 1.0, flat: bool = False) -> pa.Table:
    """A search in which the learning rate decides and the width hardly matters, and one trial in four is pruned."""
    random, rows = np.random.default_rng(0), []
    for number in range(num):
        rate, width = 10 ** random.uniform(-4, -2), int(random.integers(16, 65))
        params = {"training.learning_rate": rate, "encoder.width": width, "gate.kind": ("tanh", "relu")[number % 2]}
        value = 0.5 if flat else sign * (abs(np.log10(rate) + 3) + 1e-3 * width / 64)
        state = "PRUNED" if number % 4 == 3 else "COMPLETE"
        rows.append(make_row(number, study_id="mosi-full", state=state, params=params, **{"valid/mae": value}))
    rows.append(make_row(num, study_id="mosi-full", state="FAIL", params={"encoder.width": 16}))
    rows.append(make_row(num + 1, study_id="mosi-full", phase="confirm", params={}))
    return pa.concat_tables([trial_table(row, ("mae", "corr")) for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_parameter_that_decides_has_the_largest_share(make_row: Callable[..., dict[str, Any]], sign: float) -> None:
    found = importances(record("minimize" if sign > 0 else "maximize"), trials(make_row, 80, sign=sign))
    shares = found["mosi-full"]
    assert next(iter(shares)) == "training.learning_rate"
    assert shares["training.learning_rate"] > 0.6
    assert set(shares) == set(SPACE)
    assert sum(shares.values()) == pytest.approx(1.0)


def test_it_is_what_optuna_says_of_the_search_itself(make_row: Callable[..., dict[str, Any]]) -> None:
    rows = trials(make_row, 60)
    study = optuna.create_study()
    for row in rows.sort_by("number").to_pylist():
        if row["phase"] == "search":
            state = optuna.trial.TrialState[row["state"]]
            value, params = row["value"] if row["state"] == "COMPLETE" else None, json.loads(row["params"])
            distributions = {path: SPACE[path] for path in params}
            study.add_trial(
                optuna.trial.create_trial(state=state, value=value, params=params, distributions=distributions)
            )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    expected = optuna.importance.get_param_importances(study, evaluator=evaluator)
    assert importances(record(), rows)["mosi-full"] == expected
    assert importances(record(), rows.take(np.random.default_rng(0).permutation(rows.num_rows))) == {
        "mosi-full": expected
    }


@pytest.mark.slow
def test_a_search_that_says_too_little_is_left_out_without_a_word(
    make_row: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    few = trials(make_row, FEWEST)
    with caplog.at_level(logging.INFO):
        assert importances(record(), few) == {}
        assert importances(record(), trials(make_row, 60, flat=True)) == {}
        assert importances(Record.of(ablations.record(["full"])), trials(make_row, 60)) == {}
        assert list(importances(record(), trials(make_row, 60))) == ["mosi-full"]
    assert not caplog.records


def test_ten_complete_trials_are_enough(make_row: Callable[..., dict[str, Any]]) -> None:
    assert importances(record(), trials(make_row, 12)) == {}  # 9 of them COMPLETE
    assert list(importances(record(), trials(make_row, 13))) == ["mosi-full"]


def test_a_search_says_something_once_its_whole_best_tenth_is_better_than_its_worst(
    make_row: Callable[..., dict[str, Any]],
) -> None:
    rows = trials(make_row, 40, flat=True)  # 30 of them COMPLETE, numbers 0 to 2 among these
    for num_better, told in ((2, []), (3, ["mosi-full"])):
        values = [0.1 * row["number"] if row["number"] < num_better else row["value"] for row in rows.to_pylist()]
        place = rows.schema.get_field_index("value")
        assert list(importances(record(), rows.set_column(place, rows.schema.field(place), pa.array(values)))) == told


def test_the_table_has_parameters_by_studies_the_most_important_first() -> None:
    made = record(names=("full", "without gate", "without heads"), num_trials=20)
    shares = {"full": {"encoder.width": 0.1, "training.learning_rate": 0.9}, "without gate": {"encoder.width": 1.0}}
    found = table(made, {f"mosi-{name}": each for name, each in shares.items()})
    assert found.headers == ("parameter", "full", "without gate")
    assert found.rows == (("learning_rate", 0.9, None), ("width", 0.1, 1.0))
    assert "Left out: 1 study with fewer than 10 COMPLETE trials" in found.caption
    assert "learning_rate" in render(found)


def test_studies_of_one_name_are_told_apart_by_their_datasets() -> None:
    made = Record.of(ablations.record(["full"], datasets=("mosi", "sims")))
    found = table(made, {study_id: {"encoder.width": 1.0} for study_id in made.studies})
    assert found.headers == ("parameter", "full on mosi", "full on sims")
    with pytest.raises(ValueError, match="no search here has 10 COMPLETE trials"):
        table(made, {})


def test_the_importance_of_what_was_removed_is_summed_over_its_parameters_in_the_full_search(
    make_row: Callable[..., dict[str, Any]],
) -> None:
    made = record(names=("full", "without gate", "without heads"))
    searched = trials(make_row, 40)
    searched = searched.set_column(1, "study_id", pa.array(["mosi-full"] * len(searched)))
    shares = importances(made, searched)["mosi-full"]
    assert of_cells(made, searched) == {("mosi", "without gate"): shares["gate.kind"]}
