"""Trainings that differ in numbers of their components and of training share a pass, each with its own."""

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from msa_models.discovery import components
from msa_models.fused import advance, fit_together
from msa_models.training import Training
from msa_models.varied import Varied
from orchestrator.plan.configure import configure, known_method

from .conftest import MakeCorpus
from .test_fused import METHODS, OBJECTIVES, SMALL, assert_as_alone, assert_same, measured, never

RATES = {
    "training.learning_rate": (1e-3, 3e-3, 3e-4),
    "training.weight_decay": (0.3, 0.0, 0.01),
    "training.warmup": (0.0, 0.2, 0.5),
    "training.schedule": ("constant", "cosine", "linear"),
    "training.patience": (None, 5, 6),
    "training.modality_dropout": (0.0, 0.3, 0.1),
    "encoder.dropout": (0.1, 0.0, 0.5),
    "encoder.input_dropout": (0.0, 0.3, 0.2),
    "encoder.audio.learning_rate": (None, 1e-3, 1e-4),
    "encoder.audio.weight_decay": (None, 0.2, 0.0),
    "encoder.text.dropout": (None, 0.3, None),
}
NUMBERS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "cpsl": {
        "conflict_penalty.threshold": (1.01, 1.5, 4.0),
        "conflict_penalty.alpha": (0.0, 0.5, 1.5),
        "conflict_penalty.rho": (1.0, 0.5, 0.7),
        "conflict_penalty.floor": (0.1, 0.0, 0.3),
        "conflict_penalty.ema": (0.9, 0.0, 0.5),
        "statistical_loss.weight": (0.01, 0.1, 1.0),
        "unimodal_heads.weight": (1.0, 0.01, 0.1),
        "reconstruction.weight": (0.01, 1.0, 0.3),
        "feature_diversity.weight": (0.01, 1.0, 0.3),
    },
    "pase": {
        "prototypes.gamma": (0.5, 0.0, 0.99),
        "prototypes.tau": (0.05, 0.1, 1.0),
        "transport.epsilon": (0.002, 0.05, 1.0),
        "transport.beta": (0.05, 0.0, 0.5),
        "prototype_calibration.weight": (0.01, 0.1, 1.0),
        "transport_alignment.weight": (1.0, 0.1, 0.01),
        "shapley_modulation.rho": (0.0, 1.0, 0.6),
        "shapley_modulation.every": (1, 1, 1),
    },
    "ogm_ge": {"ogm_ge.alpha": (0.0, 0.3, 2.0)},
    "ogm_ge, updates": {"ogm_ge.alpha": (0.0, 0.3, 2.0)},
    "agm": {"agm.alpha": (0.0, 1.0, 3.0)},
    "cggm": {"cggm.rho": (0.5, 1.3, 2.0)},
    "mmpareto": {"mmpareto.gamma": (0.5, 1.5, 3.0)},
    "pmr": {"pmr.weight": (0.1, 1.0, 3.0)},
}


def differing(name: str, varied: Mapping[str, tuple[Any, ...]], corpus: Any, **more: Any) -> list[Training]:
    """Trainings each of which has its own of all numbers."""
    method, own = METHODS[name]
    known = known_method(method)
    made = []
    for index in range(3):
        numbers = {path: values[index] for path, values in varied.items()}
        config = configure(known.Config, {**SMALL, **own, **numbers, **more})
        made.append(Training(known.build(config), corpus, seed=3 + index, objective=OBJECTIVES[corpus.task]))
    return made


# what it comes to


@pytest.mark.slow
@pytest.mark.parametrize("task", OBJECTIVES)
@pytest.mark.parametrize("name", NUMBERS)
def test_each_has_the_numbers_of_its_own_components(name: str, task: str, make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(task, layout="utterances")
    assert_as_alone(partial(differing, name, NUMBERS[name], corpus))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("layout", ["utterances", "sequences"])
@pytest.mark.parametrize("name", ["cpsl", "ogm_ge, updates"])
def test_each_has_its_own_rates_decays_and_dropout(
    name: str, layout: str, optimizer: str, make_corpus: MakeCorpus
) -> None:
    corpus = make_corpus("regression", layout=layout)
    more = {"training.optimizer": optimizer}
    assert_as_alone(partial(differing, name, RATES, corpus, **more), num_epochs=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpsl", "pase"])
def test_what_is_cut_goes_on_bit_for_bit(name: str, make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("regression", layout="utterances")
    make = partial(differing, name, {**RATES, **NUMBERS[name]}, corpus)
    whole, cut = make(), make()
    for _ in range(2):
        measured(advance(whole, never))
        while any(each is None for each in advance(cut, lambda: True)):
            snapshots, cut = [each.snapshot() for each in cut], make()
            for each, snapshot in zip(cut, snapshots, strict=True):
                each.restore(snapshot)
    assert_same(cut, whole)


def test_every_number_that_may_differ_is_tried_here() -> None:
    tried = {path for numbers in NUMBERS.values() for path in numbers}
    may = {f"{name}.{number}" for name, kind in components().items() if kind.stacks for number in kind.varies}
    assert may - tried == {f"dual_phase.{number}" for number in ("patience", "min_delta", "latest")}


# who fits together


@pytest.mark.parametrize(
    "varied",
    [
        {"training.batch_size": (16, 16, 32)},
        {"training.gradient_clip": (1.0, 1.0, None)},
        {"encoder.width": (8, 8, 16)},
        {"conflict_penalty.modulate": ("gradient", "gradient", "update")},
        {"conflict_penalty.stop": (0.5, 0.5, 0.6)},
        {"statistical_loss.weight": (0.1, 0.1, 0.0)},
    ],
    ids=lambda varied: next(iter(varied)),
)
def test_those_of_another_shape_do_not(varied: Mapping[str, tuple[Any, ...]], make_corpus: MakeCorpus) -> None:
    first, second, other = differing("cpsl", varied, make_corpus("regression", layout="utterances"))
    assert fit_together([first, second])
    assert not fit_together([first, other])


# the numbers themselves


def test_a_number_of_each_model_meets_tensors_and_arrays_from_the_left() -> None:
    number, values = Varied([1.0, 2.0]), np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    expected = values * np.array([1.0, 2.0], np.float32).reshape(2, 1, 1)
    tensor = torch.from_numpy(values)
    for found in (number * tensor, tensor * number, torch.mul(tensor, other=number)):  # pyright: ignore
        assert found.dtype == torch.float32
        np.testing.assert_equal(found.numpy(), expected)
    for found in (number * values, values * number):
        assert found.dtype == np.float32
        np.testing.assert_equal(found, expected)
    np.testing.assert_equal(number / (1.0 + values), (number * np.ones_like(values)) / (1.0 + values))
    assert (2 * (1.0 - number) / 4).values == (0.0, -0.5)
    assert ((-number) ** 2).values == (1.0, 4.0)


def test_where_all_have_the_same_it_is_a_plain_number() -> None:
    assert Varied.of([0.5, 0.5]) == 0.5


def test_what_may_differ_is_a_number_with_a_default() -> None:
    for name, kind in components().items():
        known = {field.name: field for field in fields(kind)}
        for number in kind.varies:
            assert isinstance(known[number].default, int | float), f"{name}.{number}"
