"""What a training answers when numbers are not finite, or an objective is none."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.data.corpus import Corpus
from msa_models.methods import cpsl
from msa_models.metrics import Direction
from msa_models.representations import Forward
from msa_models.seams import LossTerm, Shapes
from msa_models.step import NonFiniteLoss
from msa_models.training import Objective, Training

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]

CORR = Objective(metric="valid/corr", direction=Direction.MAXIMIZE)
STEPS_PER_EPOCH = 4  # 64 samples in batches of 16


@pytest.fixture
def make_corpus(make_corpus: MakeCorpus) -> MakeCorpus:
    """Utterance vectors where a test does not say otherwise: they train fastest."""
    return partial(make_corpus, layout="utterances")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exploding(LossTerm, name="exploding"):
    """0 until step `at` of the training (from 0), then `value`."""

    weight: float = 1.0
    at: int = 0
    value: float = math.nan

    def parts(self, shapes: Shapes) -> nn.Module:
        parts = nn.Module()
        parts.register_buffer("step", torch.zeros(()))
        return parts

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        step = parts.get_buffer("step")
        exploded = step >= self.at
        step.add_(1)
        return torch.where(exploded, torch.tensor(self.value), 0.0 * forward.prediction.sum())


def exploding(corpus: Corpus, config: cpsl.Config, **settings: Any) -> Training:
    spec = cpsl.build(config)
    terms = {**spec.terms, "exploding": Exploding(**settings)}
    return Training(dataclasses.replace(spec, terms=terms), corpus, seed=0)


def with_targets(corpus: Corpus, split: str, targets: np.ndarray) -> Corpus:
    changed = dataclasses.replace(corpus.splits[split], targets=targets)
    return dataclasses.replace(corpus, splits=corpus.splits | {split: changed})


@pytest.mark.parametrize(("at", "epoch", "step"), [(0, 1, 1), (3, 1, 4), (6, 2, 3)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_loss_is_answered_with_epoch_step_and_term(
    make_corpus: MakeCorpus, make_config: MakeConfig, value: float, at: int, epoch: int, step: int
) -> None:
    training = exploding(make_corpus(), make_config(), at=at, value=value)
    expected = rf"^non-finite loss at epoch {epoch}, step {step}: 'exploding' is {value}; try "
    with pytest.raises(NonFiniteLoss, match=expected):
        list(training)
    assert len(training.measurements) == at // STEPS_PER_EPOCH
    assert all(parameter.isfinite().all() for parameter in training.network.parameters())


def test_finite_terms_whose_sum_overflows_are_answered_as_that(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    huge = with_targets(make_corpus(), "train", np.full(64, 2e37, np.float32))
    with pytest.raises(NonFiniteLoss, match=r"epoch 1, step 1: the sum of all terms overflows"):
        exploding(huge, make_config(unimodal_heads=None), value=3.3e38).train_epoch()


def test_non_finite_targets_blame_the_task_loss(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = with_targets(make_corpus(), "train", np.full(64, np.nan, np.float32))
    with pytest.raises(NonFiniteLoss, match=r"epoch 1, step 1: 'task' is nan, 'unimodal_heads' is nan; try"):
        Training(cpsl.build(make_config()), corpus, seed=0).train_epoch()


def test_non_finite_predictions_are_answered_with_split_and_epoch(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    config = make_config(training={"learning_rate": 1e30, "batch_size": 64})
    with pytest.raises(NonFiniteLoss, match=r"predictions of the valid split at epoch 1 are not finite"):
        Training(cpsl.build(config), make_corpus(), seed=0).train_epoch()


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_non_finite_test_prediction_costs_the_test_metrics_and_names_sample_and_column(
    make_corpus: MakeCorpus, make_config: MakeConfig, value: float
) -> None:
    corpus = make_corpus(layout="utterances")
    test = corpus.splits["test"]
    inputs = {name: values.copy() for name, values in test.inputs.items()}
    inputs["audio"][[5, 9], 2] = value
    poisoned = dataclasses.replace(corpus, splits=corpus.splits | {"test": dataclasses.replace(test, inputs=inputs)})
    sound, training = (
        Training(cpsl.build(make_config(training={"learning_rate": 0.03})), each, seed=2, objective=CORR)
        for each in (corpus, poisoned)
    )
    assert list(training) == list(sound)
    before = training.snapshot()
    found, expected = training.result(), sound.result()
    assert not np.isfinite(found.predictions[[5, 9]]).any()
    assert found.warning == (
        f"2 of 16 predictions of the test split are not finite, such as that of '{test.ids[5]}'; its audio column 2 is "
        f"{value:g}, train reaches {np.abs(corpus.splits['train'].inputs['audio'][:, 2]).max():g} (standardised)"
    )
    assert found.metrics == {name: each for name, each in expected.metrics.items() if name.startswith("valid/")}
    assert (found.best_epoch, found.value) == (expected.best_epoch, expected.value)
    assert training.snapshot() == before


def test_an_objective_that_is_never_a_number_is_answered_by_its_name(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus = with_targets(make_corpus(), "valid", np.zeros(24, np.float32))
    objective = Objective(metric="valid/acc2_non0", direction=Direction.MAXIMIZE)
    training = Training(cpsl.build(make_config()), corpus, seed=0, objective=objective)
    assert all(math.isnan(measurement["valid/acc2_non0"]) for measurement in training)
    with pytest.raises(ValueError, match=r"^objective 'valid/acc2_non0' was not a number at any of 3 epochs: .*choose"):
        training.result()


def test_without_a_number_patience_runs_from_the_start(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = with_targets(make_corpus(), "valid", np.zeros(24, np.float32))
    objective = Objective(metric="valid/acc2_non0", direction=Direction.MAXIMIZE)
    config = make_config(training={"epochs": 9, "patience": 2})
    assert len(list(Training(cpsl.build(config), corpus, seed=0, objective=objective))) == 2


def test_an_objective_that_the_corpus_does_not_have_is_refused_with_the_known_ones(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    for metric, hint in (("valid/acuracy", "valid/accuracy"), ("test/accuracy", "valid/accuracy")):
        with pytest.raises(ValueError, match=rf"no objective '{metric}'; known are .*Did you mean '{hint}'\?"):
            Training(
                cpsl.build(make_config()), make_corpus("classification"), seed=0, objective=Objective(metric=metric)
            )
