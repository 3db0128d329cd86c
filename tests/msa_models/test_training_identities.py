"""What is switched off is bit for bit what is not there, over whole trainings."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.data.corpus import Corpus
from msa_models.methods import cpsl
from msa_models.metrics import Direction
from msa_models.training import Objective, Result, Training

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]
SETTINGS: dict[str, Any] = {"epochs": 4, "learning_rate": 0.03}
OBJECTIVES = {
    "regression": Objective(metric="valid/corr", direction=Direction.MAXIMIZE),
    "classification": Objective(metric="valid/f1_macro", direction=Direction.MAXIMIZE),
}


def trained(corpus: Corpus, config: cpsl.Config) -> tuple[Training, Result]:
    training = Training(cpsl.build(config), corpus, seed=5, objective=OBJECTIVES[corpus.task])
    list(training)
    return training, training.result()


def assert_bitwise_the_same(first: tuple[Training, Result], second: tuple[Training, Result], besides: str = "") -> None:
    """Measurements, last and best weights and results; log and buffers of the modulator `besides` are its own, and so
    is the log of its identity, but both log the same shares of the gradients.
    """
    logs, shares, weights = [], [], []
    for training, _ in (first, second):
        own = (f"{training.spec.modulator.name}/",) if besides else ()
        logs.append([{k: v for k, v in each.items() if not k.startswith(own)} for each in training.measurements])
        shares.append([[v for k, v in each.items() if "/gradient_share/" in k] for each in training.measurements])
        weights.append({k: v for k, v in training.network.state_dict().items() if not besides or besides not in k})
    assert logs[0] == logs[1]
    assert shares[0] == shares[1]
    assert len(shares[0][0]) == 3
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert first[1].metrics == second[1].metrics
    assert first[1].best_epoch == second[1].best_epoch
    assert np.array_equal(first[1].predictions, second[1].predictions)


@pytest.mark.slow
@pytest.mark.parametrize("modulate", ["gradient", "update"])
@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_conflict_penalty_that_never_acts_is_the_same_as_none(
    make_corpus: MakeCorpus, make_config: MakeConfig, task: str, layout: str, modulate: Any
) -> None:
    corpus = make_corpus(task, layout=layout)
    idle = ConflictPenalty(threshold=math.inf, alpha=0.0, modulate=modulate)
    present, removed = (
        trained(corpus, make_config(training=SETTINGS, conflict_penalty=penalty)) for penalty in (idle, None)
    )
    assert any("conflict_penalty" in name for name in present[0].measurements[0]), "it was there"
    assert_bitwise_the_same(present, removed, besides="conflict_penalty")


@pytest.mark.slow
@pytest.mark.parametrize("modulate", ["gradient", "update"])
def test_a_conflict_penalty_that_acts_is_not(make_corpus: MakeCorpus, make_config: MakeConfig, modulate: Any) -> None:
    corpus = make_corpus(layout="utterances")
    acting = ConflictPenalty(threshold=1.05, alpha=0.5, modulate=modulate)
    present, removed = (
        trained(corpus, make_config(training=SETTINGS, conflict_penalty=penalty)) for penalty in (acting, None)
    )
    assert present[0].measurements[0]["train/objective"] != removed[0].measurements[0]["train/objective"]
    assert not np.array_equal(present[1].predictions, removed[1].predictions)


@pytest.mark.slow
@pytest.mark.parametrize("field", ["unimodal_heads", "reconstruction", "statistical_loss", "feature_diversity"])
def test_a_loss_term_of_weight_0_is_the_same_as_none(
    make_corpus: MakeCorpus, make_config: MakeConfig, field: str
) -> None:
    corpus, default = make_corpus(), make_config(training=SETTINGS)
    weightless = dataclasses.replace(getattr(default, field), weight=0.0)
    weightless, removed, full = (
        trained(corpus, dataclasses.replace(default, **changes)) for changes in ({field: weightless}, {field: None}, {})
    )
    assert_bitwise_the_same(weightless, removed)
    assert not np.array_equal(full[1].predictions, removed[1].predictions), "with its weight it matters"
