"""Losses of models that are trained together are those of each alone, against scikit-learn and SciPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error

from msa_models.losses import class_loss, label_loss, regression_loss, squared_error

DRAWS = np.random.default_rng(0)
SCORES = DRAWS.normal(size=(2, 6, 3))  # (models, B, K)
CLASSES = np.array([[0, 1, 2, 0, 1, 2], [2, 2, 1, 0, 0, 1]])
LABELS = (DRAWS.random((2, 6, 3)) < 0.5).astype(float)
NUMBERS = DRAWS.normal(size=(2, 6))
CASES = {
    "l1": (regression_loss("l1"), SCORES[..., :1], NUMBERS, mean_absolute_error),
    "mse": (regression_loss("mse"), SCORES[..., :1], NUMBERS, mean_squared_error),
    "squared": (squared_error, SCORES, LABELS, mean_squared_error),
    "classes": (class_loss, SCORES, CLASSES, lambda there, said: log_loss(there, softmax(said, axis=-1))),
    "labels": (label_loss, SCORES, LABELS, lambda there, said: log_loss(there.ravel(), expit(said).ravel())),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_a_mean_over_samples_and_what_each_has_and_over_no_models(name: str) -> None:
    loss, said, there, expected = CASES[name]
    of_each: Callable[[np.ndarray, np.ndarray], float] = expected
    found = loss(torch.from_numpy(said), torch.from_numpy(there))
    assert found.tolist() == pytest.approx([of_each(y, x) for x, y in zip(said, there, strict=True)])
    alone = [loss(torch.from_numpy(x), torch.from_numpy(y)) for x, y in zip(said, there, strict=True)]
    assert found.tolist() == pytest.approx([each.item() for each in alone])
