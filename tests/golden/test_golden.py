"""Losses, predictions, suggestions and pruning decisions are those of the commit that recorded them."""

import json
import math
from typing import Any

import pytest

from tests.golden import record
from tests.orchestrator.run import fakes

GOLDEN = json.loads(record.FILE.read_text(encoding="utf-8"))
CASES = dict(record.cases())
CLOSE = 1e-3  # what rounding grows to in six epochs of so small a model


@pytest.fixture(scope="module")
def same_arithmetic() -> bool:
    return record.arithmetic() == GOLDEN["arithmetic"]


def smooth(measurement: dict[str, float]) -> dict[str, float]:
    """What does not jump where something is rounded otherwise."""
    return {name: value for name, value in measurement.items() if name.startswith("train/") or name.endswith("/mae")}


def assert_close(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert math.isclose(mine, theirs, rel_tol=CLOSE, abs_tol=CLOSE), (mine, theirs)


def test_the_golden_values_are_of_every_case():
    assert list(GOLDEN["trainings"]) == list(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_training_gives_its_golden_losses_and_predictions(name, same_arithmetic):
    expected = GOLDEN["trainings"][name]
    found = record.training(*CASES[name], known=expected)
    assert list(found["first"]) == list(expected["first"])  # what is measured, in its order
    if same_arithmetic:
        assert found == expected
        return
    for epoch in ("first", "last"):
        assert_close(smooth(found[epoch]).values(), smooth(expected[epoch]).values())
    assert_close(found["predictions"], expected["predictions"])


@pytest.mark.slow
def test_a_search_of_trained_trials_gives_its_golden_suggestions_and_pruning_decisions(same_arithmetic):
    found, expected = record.search(real=True), GOLDEN["searches"]["trained"]
    if same_arithmetic:
        assert found == expected
    startup = [row["params"] for row in expected if row["phase"] == "search"][:6]  # drawn before anything was learned
    assert [row["params"] for row in found if row["phase"] == "search"][:6] == startup


@pytest.mark.slow
def test_a_search_over_a_formula_gives_its_golden_suggestions_and_pruning_decisions(same_arithmetic):
    found, expected = record.search(real=False), GOLDEN["searches"]["formula"]
    assert [row["state"] for row in found] == [row["state"] for row in expected]
    assert {row["state"] for row in found} == {"COMPLETE", "PRUNED"}
    if same_arithmetic:
        assert found == expected
    fakes.assert_alike(found, expected)
