"""What rules score modalities by, against probabilities written out with SciPy one sample at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from scipy.stats import bernoulli

from msa_models import likelihood

DRAWS = np.random.default_rng(0)
PREDICTIONS = DRAWS.normal(size=(2, 5, 3))  # (M, B, K)
CLASSES = DRAWS.integers(3, size=5)
LABELS = (DRAWS.random((5, 3)) < 0.5).astype(float)
NUMBERS = DRAWS.normal(size=5)


def of(function, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    found = function(torch.from_numpy(predictions.copy()), torch.from_numpy(targets))
    assert found.shape == predictions.shape[:2]
    return found.numpy()


def test_of_classes_it_is_the_probability_of_the_true_one() -> None:
    expected = [[softmax(scores)[own] for scores, own in zip(rows, CLASSES, strict=True)] for rows in PREDICTIONS]
    np.testing.assert_allclose(of(likelihood.likelihood, PREDICTIONS, CLASSES), expected)
    np.testing.assert_allclose(of(likelihood.log_likelihood, PREDICTIONS, CLASSES), np.log(expected))
    right = [[scores.argmax() == own for scores, own in zip(rows, CLASSES, strict=True)] for rows in PREDICTIONS]
    np.testing.assert_array_equal(of(likelihood.hits, PREDICTIONS, CLASSES), right)


def test_of_a_number_it_falls_with_the_error() -> None:
    predictions = PREDICTIONS[..., :1]
    errors = np.abs(predictions[..., 0] - NUMBERS)
    np.testing.assert_allclose(of(likelihood.likelihood, predictions, NUMBERS), np.exp(-errors))
    np.testing.assert_allclose(of(likelihood.log_likelihood, predictions, NUMBERS), -errors)
    np.testing.assert_array_equal(
        of(likelihood.hits, predictions, NUMBERS), np.sign(predictions[..., 0]) == np.sign(NUMBERS)
    )


def test_a_number_of_0_has_the_sign_of_those_below() -> None:
    found = of(likelihood.hits, np.array([-1.0, 0.0, 1.0]).reshape(1, 3, 1), np.zeros(3))
    np.testing.assert_array_equal(found, [[1.0, 1.0, 0.0]])


@pytest.mark.parametrize("num_labels", [1, 3])
def test_of_several_labels_it_is_the_mean_over_them(num_labels: int) -> None:
    predictions, labels = PREDICTIONS[..., :num_labels], LABELS[:, :num_labels]
    chance: Any = bernoulli(expit(predictions))
    np.testing.assert_allclose(of(likelihood.likelihood, predictions, labels), chance.pmf(labels).mean(-1))
    np.testing.assert_allclose(of(likelihood.log_likelihood, predictions, labels), chance.logpmf(labels).mean(-1))
    right = ((predictions > 0) == (labels == 1)).mean(-1)
    np.testing.assert_allclose(of(likelihood.hits, predictions, labels), right)


@pytest.mark.parametrize(
    ("targets", "says", "there"),
    [
        (CLASSES, softmax(PREDICTIONS[0], axis=-1), np.eye(3)[CLASSES]),
        (LABELS, expit(PREDICTIONS[0]), LABELS),
    ],
)
def test_what_is_expected_are_probabilities(targets: np.ndarray, says: np.ndarray, there: np.ndarray) -> None:
    found = likelihood.expected(torch.from_numpy(PREDICTIONS[0]), torch.from_numpy(targets))
    np.testing.assert_allclose(found[0].numpy(), says)
    np.testing.assert_array_equal(found[1].numpy(), there)


@pytest.mark.parametrize("targets", [CLASSES, LABELS, NUMBERS])
@pytest.mark.parametrize("models", [(), (2,)])
def test_flattened_predictions_have_their_targets_one_after_the_other(
    targets: np.ndarray, models: tuple[int, ...]
) -> None:
    predictions = np.broadcast_to(PREDICTIONS, (*models, *PREDICTIONS.shape))
    of_models = np.broadcast_to(targets, (*models, *targets.shape))
    flat, repeated = likelihood.flattened(torch.from_numpy(predictions.copy()), torch.from_numpy(of_models.copy()))
    expected = np.concatenate([targets] * len(PREDICTIONS))
    np.testing.assert_array_equal(flat.numpy(), np.broadcast_to(np.concatenate(PREDICTIONS), flat.shape))
    np.testing.assert_array_equal(repeated.numpy(), np.broadcast_to(expected, (*models, *expected.shape)))
