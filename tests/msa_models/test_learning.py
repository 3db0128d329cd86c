"""What is planted in the synthetic corpus is learned; and a GPU learns what a CPU learns."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from msa_models import data
from msa_models.config import EncoderConfig, ModalityEncoder, TrainingConfig
from msa_models.data.corpus import Corpus
from msa_models.methods import concat, cpsl
from msa_models.metrics import Direction
from msa_models.training import Objective, Training

MakeConfig = Callable[..., cpsl.Config]


def corpus_of(layout: str) -> Corpus:
    return data.load("synthetic", options={"layout": layout, "num_train": 300, "steps": 6}).standardised()


def best_mae(corpus: Corpus, config: cpsl.Config) -> float:
    training = Training(cpsl.build(config), corpus, seed=0)
    list(training)
    return training.result().value


def constant_mae(corpus: Corpus) -> float:
    """The mean absolute error of the best constant predictor, which is the median."""
    targets = corpus.splits["valid"].targets
    return float(np.abs(targets - np.median(targets)).mean())


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["sequences", "utterances"])
def test_training_beats_the_best_constant_and_text_alone_beats_vision_alone(
    make_config: MakeConfig, layout: str
) -> None:
    corpus = corpus_of(layout)
    config = make_config(training={"epochs": 6, "batch_size": 32, "learning_rate": 5e-3}, encoder={"width": 16})
    constant = constant_mae(corpus)
    whole, text, vision = (
        best_mae(corpus.select(modalities), config) for modalities in (corpus.modalities, ["text"], ["vision"])
    )
    assert whole < 0.8 * constant
    assert text < 0.85 * vision


@pytest.mark.slow
def test_an_lstm_learns_too_at_a_rate_of_its_own_and_of_accumulated_gradients() -> None:
    corpus = corpus_of("sequences").select(["text"])
    training = TrainingConfig(epochs=4, batch_size=16, accumulate=2, learning_rate=5e-3, schedule="linear", warmup=0.1)
    encoder = EncoderConfig(width=16, text=ModalityEncoder(kind="lstm", learning_rate=1e-2))
    run = Training(concat.build(concat.Config(training=training, encoder=encoder)), corpus, seed=0)
    list(run)
    assert run.result().value < 0.8 * constant_mae(corpus)


@pytest.mark.slow
def test_training_of_several_labels_beats_who_always_says_what_is_commoner(make_config: MakeConfig) -> None:
    corpus = data.load("synthetic", task="multilabel", options={"layout": "utterances", "num_train": 300, "classes": 6})
    config = make_config(training={"epochs": 6, "batch_size": 32, "learning_rate": 5e-3}, encoder={"width": 16})
    objective = Objective(metric="valid/wa_mean", direction=Direction.MAXIMIZE)
    training = Training(cpsl.build(config), corpus.standardised(), seed=0, objective=objective)
    list(training)
    scores, shares = training.result().metrics, corpus.splits["test"].targets.mean(axis=0)
    assert scores["test/accuracy_mean"] > np.maximum(shares, 1 - shares).mean() + 0.04
    assert scores["test/wa_mean"] > 0.6, "always the same is 0.5"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("layout", ["sequences", "utterances"])
def test_a_gpu_learns_the_curve_of_a_cpu(make_config: MakeConfig, layout: str) -> None:
    corpus = corpus_of(layout)
    config = make_config(training={"epochs": 4, "learning_rate": 5e-3}, encoder={"width": 16, "dropout": 0.0})
    curves = {}
    for device in ("cpu", "cuda"):
        training = Training(cpsl.build(config), corpus, seed=0, device=device)
        training.train_epoch()
        training.restore(training.snapshot())
        curves[device] = [training.measurements[0]["valid/mae"], *(each["valid/mae"] for each in training)]
        assert training.result().predictions.dtype == np.float32
    np.testing.assert_allclose(curves["cuda"], curves["cpu"], rtol=0.05)
