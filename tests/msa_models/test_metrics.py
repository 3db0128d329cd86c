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
WEAK = np.float32(0.4)
quick = settings(max_examples=60, deadline=None)


@pytest.mark.slow
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


@pytest.mark.slow
@quick
@given(pairs)
def test_sims_regression_agrees_with_intervals_spelled_out(samples: list[tuple[float, float]]) -> None:
    p, t = (np.clip(column, -1, 1) for column in np.array(samples, np.float32).T)
    classes = {n: (sims_classes(p, n), sims_classes(t, n)) for n in (2, 3, 5)}
    weak = [mine == theirs for mine, theirs, label in zip(*classes[2], t, strict=True) if -WEAK <= label <= WEAK]
    squares, errors = sum((t.astype(float) - t.astype(float).mean()) ** 2), sum((p.astype(float) - t) ** 2)
    varies = len(set(t.tolist())) > 1
    assert metrics.regression(*np.array(samples, np.float32).T, scale="sims") == pytest.approx(
        {
            "mae": np.mean(np.abs(p.astype(float) - t)),
            "corr": reference_correlation(p, t),
            "acc2": reference.accuracy_score(classes[2][1], classes[2][0]),
            "f1": reference.f1_score(classes[2][1], classes[2][0], average="weighted", zero_division=0),
            "acc3": reference.accuracy_score(classes[3][1], classes[3][0]),
            "acc5": reference.accuracy_score(classes[5][1], classes[5][0]),
            "acc2_weak": np.mean(weak) if weak else math.nan,
            "r2": 1 - errors / squares if varies else float(errors == 0),
        },
        abs=1e-6,
        nan_ok=True,
    )
    if varies:
        assert metrics.regression(p, t, "sims")["r2"] == pytest.approx(reference.r2_score(t.astype(float), p))


@pytest.mark.slow
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
    recalls = reference.recall_score(actual, predicted, labels=range(5), average=None, zero_division=0)
    expected |= {f"f1_{name}": score for name, score in zip(names, np.atleast_1d(per_class), strict=True)}
    expected |= {f"recall_{name}": score for name, score in zip(names, np.atleast_1d(recalls), strict=True)}
    assert metrics.classification(predicted, actual, names) == pytest.approx(expected, abs=1e-6)
    if set(actual) >= set(predicted) and len(set(actual)) > 1:
        assert metrics.classification(predicted, actual)["uar"] == pytest.approx(
            reference.balanced_accuracy_score(actual, predicted)
        )


@pytest.mark.slow
@quick
@given(
    st.integers(1, 4).flatmap(
        lambda labels: st.lists(
            st.tuples(*[st.tuples(st.sampled_from([-2.0, -0.0, 0.0, 1e-9, 3.0]), st.booleans())] * labels),
            min_size=1,
            max_size=40,
        )
    )
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_the_scores_of_several_labels_agree_with_scikit_learn(samples: list[tuple[tuple[float, bool], ...]]) -> None:
    pairs = np.array(samples, np.float64)  # (N, K, 2)
    logits, targets = pairs[..., 0], pairs[..., 1]
    names = ("happy", "sad", "anger", "fear")[: targets.shape[1]]
    each = []
    for p, t in zip((logits > 0).T, targets.T == 1, strict=True):
        f1 = reference.f1_score(t, p, average="weighted", zero_division=0)
        each.append((reference.accuracy_score(t, p), reference.balanced_accuracy_score(t, p), f1))
    expected = dict(zip(("accuracy_mean", "wa_mean", "f1_mean"), np.mean(each, axis=0), strict=True))
    for name, scores in zip(names, each, strict=True):
        expected |= {f"{score}_{name}": value for score, value in zip(("accuracy", "wa", "f1"), scores, strict=True)}
    found = metrics.multilabel(logits, targets, names)
    assert found == pytest.approx(expected, abs=1e-12)
    assert tuple(found) == metrics.names("multilabel", "", names)
    assert {type(value) for value in found.values()} == {float}


def test_scores_of_ch_sims_v2_are_those_of_its_authors() -> None:
    """By hand from their definitions: [-1, 0] and (0, 1] of the labels in [-0.4, 0.4], bounds included."""
    targets, predictions = [-1.0, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6], [0.5, -0.1, 0.3, 0.0, 0.1, -0.2, -0.5]
    found = metrics.regression(predictions, targets, "sims")
    assert found["acc2_weak"] == pytest.approx(3 / 5)  # of -0.4, -0.2, 0.0, 0.2, 0.4 the second and the last are wrong
    assert found["acc2"] == pytest.approx(3 / 7)
    squared_errors = 2.25 + 0.09 + 0.25 + 0.0 + 0.01 + 0.36 + 1.21
    mean = -0.4 / 7
    assert found["r2"] == pytest.approx(1 - squared_errors / sum((target - mean) ** 2 for target in targets), abs=1e-6)
    assert math.isnan(metrics.regression([0.5], [0.6], "sims")["acc2_weak"])
    assert [metrics.regression([value], [0.5], "sims")["r2"] for value in (0.5, 0.4)] == [1.0, 0.0]


def test_weighted_accuracy_is_that_of_tong_et_al() -> None:
    # Of 2 happy samples 1 is found, of 6 others 5: (TP N / P + TN) / 2N = (1 * 6 / 2 + 5) / 12
    logits, targets = [1, -1, -1, -1, -1, -1, -1, 1], [1, 1, 0, 0, 0, 0, 0, 0]
    found = metrics.multilabel(np.array([logits]).T, np.array([targets]).T, ["happy"])
    assert found["wa_happy"] == pytest.approx((1 * 6 / 2 + 5) / 12)
    assert found["accuracy_happy"] == 6 / 8


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
    assert " ".join(metrics.names("regression", "sims")) == "mae corr acc2 f1 acc3 acc5 acc2_weak r2"
    expected = "accuracy f1_weighted f1_macro uar f1_sad f1_calm recall_sad recall_calm"
    assert " ".join(metrics.names("classification", "", ("sad", "calm"))) == expected


def test_of_many_classes_there_is_f1_alone() -> None:
    names = [f"class_{index}" for index in range(13)]
    assert len(metrics.names("classification", "", names[:12])) == 4 + 24
    assert len(metrics.names("classification", "", names)) == 4 + 13
    found = metrics.classification(np.arange(13), np.arange(13), names)
    assert tuple(found) == metrics.names("classification", "", names)


def test_a_metric_of_one_class_is_told_from_those_of_all() -> None:
    assert all(map(metrics.of_one_class, ("f1_happy", "valid/recall_sad", "wa_fear", "test/accuracy_anger")))
    of_all = [*metrics.names("regression"), *metrics.names("regression", "sims"), *metrics.names("classification")]
    assert not any(map(metrics.of_one_class, [*of_all, *metrics.names("multilabel"), "test/f1_weighted", "valid/rmse"]))


def test_several_labels_have_their_means_first_and_then_the_scores_of_each() -> None:
    expected = "accuracy_mean wa_mean f1_mean accuracy_happy wa_happy f1_happy accuracy_sad wa_sad f1_sad"
    assert " ".join(metrics.names("multilabel", "", ("happy", "sad"))) == expected


def test_the_scores_of_a_task_are_those_that_its_names_announce() -> None:
    for task, predictions, targets, classes in (
        ("regression", [1.0, 2.0], [2.0, 1.0], ()),
        ("classification", [[0.1, 0.9], [0.3, 0.2]], [1, 0], ("a", "b")),
        ("multilabel", [[0.1, 0.9], [0.3, 0.2]], [[0, 1], [1, 1]], ("a", "b")),
    ):
        found = metrics.measure(task, predictions, targets, classes=classes)
        assert tuple(found) == metrics.names(task, "mosi", classes)


def test_classification_reports_the_names_in_table_order() -> None:
    for classes in ((), ("a", "b")):
        assert tuple(metrics.classification([0, 1], [1, 1], classes)) == metrics.names("classification", "", classes)


def test_only_the_error_is_better_when_smaller() -> None:
    names = [*metrics.names("regression"), *metrics.names("regression", "sims"), "accuracy", "f1_macro", "f1_happy"]
    names += metrics.names("multilabel", "", ("happy",))
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


@pytest.mark.parametrize(
    ("logits", "targets", "classes", "message"),
    [
        ([[0.1, 0.9]], [[1]], ("a", "b"), r"shapes \(1, 2\) and \(1, 1\); expected .* both \(N, 2\)"),
        ([[0.1]], [[1]], ("a", "b"), r"expected logits and targets, both \(N, 2\)"),
        ([0.1], [1], ("a",), r"both \(N, 1\)"),
        ([[0.1], [0.2]], [[1], [2]], ("a",), "1 targets are neither 0 nor 1, such as 2"),
        ([[float("nan")]], [[1]], ("a",), "1 of 1 predictions are not finite"),
        ([[0.1, 0.2]], [[1, 0]], ("mean", "b"), "would hide the metric accuracy_mean; rename the class"),
        (np.empty((0, 1)), np.empty((0, 1)), ("a",), "no samples"),
    ],
)
def test_faulty_input_of_several_labels_is_refused(
    logits: Any, targets: Any, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.multilabel(logits, targets, classes)


def test_unknown_scales_and_tasks_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no label scale 'mosei'; expected mosi or sims"):
        metrics.regression([1], [1], "mosei")
    with pytest.raises(ValueError, match="no task 'ranking'; expected regression, classification or multilabel"):
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
