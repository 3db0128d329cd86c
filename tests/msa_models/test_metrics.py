"""Metrics against scikit-learn, and against MMSA's definitions spelled out one sample at a time."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from msa_models import metrics

reference: Any = sklearn_metrics  # its signatures are not annotated

# Labels of real corpora sit on grids, and so on the bounds of bins: halves, tenths, thirds and zeros are drawn often.
GRID = [k / 2 for k in range(-8, 9)] + [k / 10 for k in range(-12, 13)] + [k / 3 for k in range(-9, 10)] + [-0.0]
value = st.one_of(st.sampled_from(GRID), st.floats(-4, 4, width=32))
pairs = st.lists(st.tuples(value, value), min_size=1, max_size=60)
quick = settings(max_examples=200, deadline=None)


@quick
@given(pairs)
def test_mosi_regression_agrees_with_scikit_learn(samples: list[tuple[float, float]]) -> None:
    p, t = np.array(samples, np.float32).T
    found = metrics.regression(p, t, "mosi")
    expected = {
        "mae": np.mean(np.abs(p.astype(float) - t)),
        "corr": reference_correlation(p, t),
        "acc2_has0": reference.accuracy_score(t >= 0, p >= 0),
        "f1_has0": reference.f1_score(t >= 0, p >= 0, average="weighted", zero_division=0),
        "acc5": reference.accuracy_score(half_even_classes(t, 2), half_even_classes(p, 2)),
        "acc7": reference.accuracy_score(half_even_classes(t, 3), half_even_classes(p, 3)),
    }
    kept = t != 0
    if kept.any():
        expected["acc2_non0"] = reference.accuracy_score(t[kept] > 0, p[kept] > 0)
        expected["f1_non0"] = reference.f1_score(t[kept] > 0, p[kept] > 0, average="weighted", zero_division=0)
    else:
        assert math.isnan(found.pop("acc2_non0"))
        assert math.isnan(found.pop("f1_non0"))
    assert found == pytest.approx(expected, abs=1e-6)


@quick
@given(pairs)
def test_sims_regression_agrees_with_intervals_spelled_out(samples: list[tuple[float, float]]) -> None:
    p, t = (np.clip(column, -1, 1) for column in np.array(samples, np.float32).T)
    classes = {n: (sims_classes(p, n), sims_classes(t, n)) for n in (2, 3, 5)}
    assert metrics.regression(*np.array(samples, np.float32).T, scale="sims") == pytest.approx(
        {
            "mae": np.mean(np.abs(p.astype(float) - t)),
            "corr": reference_correlation(p, t),
            "acc2": reference.accuracy_score(classes[2][1], classes[2][0]),
            "f1": reference.f1_score(classes[2][1], classes[2][0], average="weighted", zero_division=0),
            "acc3": reference.accuracy_score(classes[3][1], classes[3][0]),
            "acc5": reference.accuracy_score(classes[5][1], classes[5][0]),
        },
        abs=1e-6,
    )


@quick
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=50))
def test_classification_agrees_with_scikit_learn(samples: list[tuple[int, int]]) -> None:
    predicted, actual = np.array(samples).T
    names = ("anger", "joy", "fear", "calm", "other")
    per_class = reference.f1_score(actual, predicted, labels=range(5), average=None, zero_division=0)
    expected = {
        "accuracy": reference.accuracy_score(actual, predicted),
        "f1_weighted": reference.f1_score(actual, predicted, average="weighted", zero_division=0),
        "f1_macro": reference.f1_score(actual, predicted, average="macro", zero_division=0),
        "uar": reference.recall_score(actual, predicted, average="macro", zero_division=0),
    }
    assert metrics.classification(predicted, actual) == pytest.approx(expected, abs=1e-6)
    expected |= {f"f1_{name}": score for name, score in zip(names, np.atleast_1d(per_class), strict=True)}
    assert metrics.classification(predicted, actual, names) == pytest.approx(expected, abs=1e-6)
    if set(actual) >= set(predicted) and len(set(actual)) > 1:
        assert metrics.classification(predicted, actual)["uar"] == pytest.approx(
            reference.balanced_accuracy_score(actual, predicted)
        )


def test_scores_count_by_their_largest_column() -> None:
    scores = np.random.default_rng(0).normal(size=(40, 3))
    actual = np.random.default_rng(1).integers(0, 3, 40)
    assert metrics.classification(scores, actual, ("a", "b", "c")) == metrics.classification(
        scores.argmax(axis=1), actual, ("a", "b", "c")
    )


def test_double_precision_scores_are_not_tied_by_rounding() -> None:
    assert metrics.classification(np.array([[1.0, 1.0 + 1e-12]]), [1])["accuracy"] == 1.0


def test_ties_at_half_round_to_even() -> None:
    # 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, -0.5 -> 0: rounding half away from zero would miss all four.
    assert metrics.regression([0.5, 1.5, 2.5, -0.5], [0.0, 2.0, 2.0, 0.0])["acc7"] == 1.0
    assert metrics.regression([2.5], [3.0])["acc7"] == 0.0
    assert metrics.regression([2.5], [3.0])["acc5"] == 1.0


def test_zero_counts_as_non_negative_on_mosi_and_as_negative_on_sims() -> None:
    assert metrics.regression([0.0], [1.0], "mosi")["acc2_has0"] == 1.0
    assert metrics.regression([0.0], [1.0], "sims")["acc2"] == 0.0
    assert metrics.regression([0.0], [-1.0], "sims")["acc2"] == 1.0


def test_sims_bounds_are_bounds_in_single_precision() -> None:
    # As doubles, float32(0.1) lies above 0.1 and float32(-0.7) above -0.7.
    assert (
        metrics.regression(np.array([0.1, -0.7], np.float32), np.array([0.05, -0.9], np.float32), "sims")["acc5"] == 1.0
    )


@pytest.mark.parametrize(("predictions", "targets"), [([1, 1, 1], [0, 1, 2]), ([0, 1, 2], [0.1] * 3), ([2], [3])])
def test_the_correlation_with_a_constant_is_zero_and_said_to_be_undefined(predictions: Any, targets: Any) -> None:
    assert metrics.regression(predictions, targets)["corr"] == 0.0
    assert metrics.correlation_undefined(predictions, targets)


def test_clipping_to_the_sims_scale_can_make_predictions_constant() -> None:
    assert not metrics.correlation_undefined([2.0, 3.0], [0.0, 1.0])
    assert metrics.correlation_undefined([2.0, 3.0], [0.0, 1.0], "sims")
    assert metrics.regression([2.0, 3.0], [0.0, 1.0], "sims")["corr"] == 0.0


def test_a_column_of_predictions_is_not_broadcast_against_the_targets() -> None:
    p, t = np.array([1.0, -1.0, 2.0]), np.array([1.0, -2.0, 2.0])
    assert metrics.regression(p[:, None], t) == metrics.regression(p, t)


@pytest.mark.parametrize("scale", ["mosi", "sims"])
def test_regression_reports_the_names_in_table_order(scale: str) -> None:
    assert tuple(metrics.regression([1, 2], [2, 1], scale)) == metrics.names("regression", scale)


def test_the_table_order_is_fixed() -> None:
    expected = "mae corr acc2_has0 f1_has0 acc2_non0 f1_non0 acc5 acc7"
    assert " ".join(metrics.names("regression")) == expected
    assert metrics.names("regression", "sims") == ("mae", "corr", "acc2", "f1", "acc3", "acc5")
    assert metrics.names("classification", "", ("sad",)) == ("accuracy", "f1_weighted", "f1_macro", "uar", "f1_sad")


def test_classification_reports_the_names_in_table_order() -> None:
    for classes in ((), ("a", "b")):
        assert tuple(metrics.classification([0, 1], [1, 1], classes)) == metrics.names("classification", "", classes)


def test_only_the_error_is_better_when_smaller() -> None:
    names = [*metrics.names("regression"), *metrics.names("regression", "sims"), "accuracy", "f1_macro", "f1_happy"]
    assert {name for name in names if metrics.direction(name) == "minimize"} == {"mae"}
    assert metrics.direction("valid/mae") == "minimize"
    assert metrics.direction("test/uar") == "maximize"
    with pytest.raises(ValueError, match=r"no metric 'valid/rmse'; known are .*mae"):
        metrics.direction("valid/rmse")


def test_every_value_is_a_python_float() -> None:
    found = metrics.regression([1, 2], [2, 1]) | metrics.regression([1, 2], [2, 1], "sims")
    assert {type(score) for score in (found | metrics.classification([0], [0], ("x",))).values()} == {float}


@pytest.mark.parametrize(
    ("predictions", "targets", "message"),
    [
        ([1.0, float("nan"), float("inf")], [0, 0, 0], "2 of 3 predictions are not finite"),
        ([1.0, 1e300], [0, 0], "1 of 2 predictions are not finite"),
        ([1.0, 2.0], [0, float("-inf")], "1 of 2 targets are not finite"),
        ([1.0, 2.0], [0], "2 predictions but 1 targets"),
        ([], [], "no samples"),
        ([[1.0, 2.0]], [1], r"shape \(1, 2\)"),
        (["good"], [1], "expected an array of numbers"),
        (1.0, 1.0, "expected an array of numbers"),
    ],
)
def test_faulty_regression_input_is_refused(predictions: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.regression(predictions, targets)


@pytest.mark.parametrize(
    ("predictions", "targets", "classes", "message"),
    [
        ([0, 2], [0, 1], ("a", "b"), r"1 predictions are no class index \(0 to 1\), such as 2"),
        ([0, 1], [0, -1], (), "1 targets are no class index"),
        ([0, 0.5], [0, 1], (), "such as 0.5"),
        ([[0.1, 0.9]], [2], (), r"1 targets are no class index \(0 to 1\)"),
        ([[0.1, 0.9]], [1], ("a", "b", "c"), "scores have 2 columns; expected 3"),
        ([[0.1], [0.9]], [1, 0], (), "scores have 1 columns"),
        ([[0.1, float("nan")]], [1], (), "1 of 2 predictions are not finite"),
        ([0, 1], [1], (), "2 predictions but 1 targets"),
        ([], [], (), "no samples"),
        ([0], [0], ("macro", "b"), "would hide the metric f1_macro"),
        ([0], [0], ("b", "b"), "must differ"),
    ],
)
def test_faulty_classification_input_is_refused(
    predictions: list, targets: list, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.classification(predictions, targets, classes)


def test_unknown_scales_and_tasks_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no label scale 'mosei'; expected mosi or sims"):
        metrics.regression([1], [1], "mosei")
    with pytest.raises(ValueError, match="no task 'ranking'; expected regression or classification"):
        metrics.names("ranking")


def reference_correlation(p: np.ndarray, t: np.ndarray) -> float:
    if len(set(p.tolist())) == 1 or len(set(t.tolist())) == 1:
        return 0.0
    return float(np.corrcoef(p, t)[0, 1])


def half_even_classes(values: np.ndarray, limit: int) -> list[int]:
    """By Python's own rounding, which is half to even."""
    return [round(min(max(float(value), -limit), limit)) for value in values]


def sims_classes(values: np.ndarray, number: int) -> list[int]:
    """How many bounds a value exceeds, all in single precision."""
    bounds = {2: (0.0,), 3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}[number]
    return [sum(bool(value > np.float32(bound)) for bound in bounds) for value in values]
