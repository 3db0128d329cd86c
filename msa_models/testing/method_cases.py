"""Methods in small configurations, and what holds of each of their trainings."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from msa_models import discovery, metrics
from msa_models.data.corpus import Corpus
from msa_models.discovery import Method
from msa_models.metrics import Direction
from msa_models.network import Network, shapes
from msa_models.seams import Component, LossTerm, SharedState
from msa_models.spec import Spec
from msa_models.training import Objective, Training

MODALITIES = ("text", "audio", "vision")
SUBSETS = tuple(subset for size in (1, 2, 3) for subset in combinations(MODALITIES, size))
ENCODERS = (  # layout, kind of the encoders of sequences
    ("sequences", "transformer"),
    ("sequences", "conv"),
    ("utterances", "transformer"),
    ("sequences", "lstm"),
    ("text without time", "conv"),
    ("only text in time", "transformer"),
)
SEQUENCES = tuple(each for each in ENCODERS if each[0] != "utterances")
OBJECTIVES = {
    "regression": Objective(metric="valid/corr", direction=Direction.MAXIMIZE),
    "classification": Objective(metric="valid/f1_macro", direction=Direction.MAXIMIZE),
    "multilabel": Objective(metric="valid/wa_mean", direction=Direction.MAXIMIZE),
}
RULES = tuple(name for name, kind in discovery.components().items() if kind.balancing)


def components_of(method: Method) -> dict[str, type[Component]]:
    """The components that a method's configuration can have."""
    return {**discovery.components(), **{each.name: type(each) for each in method.Config().components}}


def present_in(method: Method) -> list[str]:
    """What a method has by default, and can be without."""
    return [each.name for each in method.Config().components if not isinstance(each, SharedState)]


def absent_from(method: Method) -> list[str]:
    """What can be brought into a method."""
    return [name for name in components_of(method) if getattr(method.Config(), name) is None]


def brought_in(method: Method, *names: str) -> dict[str, Any]:
    """Changes of a configuration: these components with the states that they read, and no other one of their seams."""
    kinds, default = components_of(method), method.Config()
    changes: dict[str, Any] = {}
    for name in names:
        alone = kinds[name].seam not in (LossTerm.seam, SharedState.seam)
        rivals = [each.name for each in default.components if alone and each.seam == kinds[name].seam]
        changes |= dict.fromkeys(rivals)
    for name in names:
        changes[name] = kinds[name]()
        changes |= _states_of(method, changes[name], default)
    return changes


def _states_of(method: Method, component: Component, default: Any) -> dict[str, Any]:
    states = {name: components_of(method)[name]() for name in component.reads if getattr(default, name, None) is None}
    for state in list(states.values()):
        states |= _states_of(method, state, default)
    return states


def configuration(method: Method, changes: Mapping[str, Any] | None = None, *, kind: str = "transformer") -> Any:
    """The method's own defaults, but small and for two epochs."""
    default = method.Config()
    encoder: dict[str, Any] = {"width": 8, "heads": 2, "kind": kind}
    return dataclasses.replace(
        default,
        encoder=dataclasses.replace(default.encoder, **encoder),
        training=dataclasses.replace(default.training, epochs=2, batch_size=16, learning_rate=0.01),
        **(changes or {}),
    )


def training_of(method: Method, corpus: Corpus, config: Any) -> Training:
    """A training of a small configuration."""
    return Training(method.build(config), corpus, seed=0, objective=OBJECTIVES[corpus.task])


def assert_trains(training: Training) -> None:
    """Two epochs of finite, documented measurements, and a result."""
    spec, corpus = training.spec, training.corpus
    for epoch, measurement in enumerate(training, 1):
        assert measurement["epoch"] == epoch
        assert_documented(measurement, spec, corpus)
        assert all(math.isfinite(value) for value in measurement.values())
    assert training.epoch == 2
    result = training.result()
    scores = metrics.names(corpus.task, corpus.scale, corpus.classes)
    assert set(result.metrics) == {f"{split}/{score}" for split in ("valid", "test") for score in scores}
    assert result.predictions.shape == ((8,) if corpus.task == "regression" else (8, 3))
    assert np.isfinite(result.predictions).all()


def assert_documented(measurement: dict[str, float], spec: Spec, corpus: Corpus) -> None:
    """Every entry of a measurement is one that `Training.train_epoch` tells of."""
    scores = metrics.names(corpus.task, corpus.scale, corpus.classes)
    modulator = spec.modulator.name
    expected = {"epoch", "train/objective", "train/task"}
    expected |= {f"train/{name}" for name in spec.terms} | {f"valid/{score}" for score in scores}
    expected |= {"warnings/correlation_undefined"} if corpus.task == "regression" else set()
    expected |= {"text_encoder/autocast"} if corpus.pretrained else set()
    balance = ("gradient_share", "conflict_rate")
    expected |= {f"{modulator}/{quantity}/{modality}" for quantity in balance for modality in corpus.modalities}
    for name in measurement.keys() - expected - {f"train/{modulator}"}:
        component, quantity, *modality = name.split("/")
        assert component in {each.name for each in spec.components}, name
        assert quantity.isidentifier(), name
        assert modality in ([], *([each] for each in corpus.modalities)), name
        assert modality or component != modulator, f"{name}: a modulator logs one number for each modality"
    assert measurement.keys() >= expected
    shares = [measurement[f"{modulator}/gradient_share/{modality}"] for modality in corpus.modalities]
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)


def assert_continues_from_any_epoch(method: Method, corpus: Corpus, config: Any) -> None:
    """From the snapshot after each epoch, before the first and after the last too: the same bits at the end."""
    training = training_of(method, corpus, config)
    snapshots = [training.snapshot()]
    for _ in training:
        snapshots.append(training.snapshot())
    for data in snapshots:
        torch.rand(3)
        continued = training_of(method, corpus, config)
        continued.restore(data)
        list(continued)
        assert continued.measurements == training.measurements
        assert continued.snapshot() == snapshots[-1]
        assert np.array_equal(continued.result().predictions, training.result().predictions)
        assert continued.result().metrics == training.result().metrics


def assert_parts_equal_the_whole(method: Method, corpus: Corpus, changes: Mapping[str, Any], kind: str) -> None:
    """Batches encoded modality by modality, and sample by sample: the same weights, with dropout to the bit.

    In groups of samples dropout is drawn in another order, so these are without, and equal but for rounding.
    """
    config = configuration(method, changes, kind=kind)
    still = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, dropout=0.0))
    for each, max_tokens, tolerance in ((config, 16 * 4, 0.0), (still, 5, 1e-4)):
        runs = []
        for most in (2**16, max_tokens):
            settings = dataclasses.replace(each.training, max_tokens=most, optimizer="sgd", learning_rate=0.1)
            runs.append(training_of(method, corpus, dataclasses.replace(each, training=settings)))
            runs[-1].train_epoch()
        whole, parts = (run.network.state_dict() for run in runs)
        for name, weight in whole.items():
            torch.testing.assert_close(parts[name], weight, atol=tolerance, rtol=tolerance)


def assert_continues_from_any_step(method: Method, corpus: Corpus, config: Any, *, seed: int = 0) -> None:
    """Cut after any step of any epoch, it comes to the same bits, and so does one that goes on from such a snapshot."""
    draw, whole = random.Random(seed), training_of(method, corpus, config)
    list(whole)
    cut, snapshots = training_of(method, corpus, config), list[bytes]()
    while not cut.done:
        if cut.advance(lambda: draw.random() < 0.5) is None:
            snapshots.append(cut.snapshot())
        torch.rand(3)
    assert cut.snapshot() == whole.snapshot()
    continued, data = training_of(method, corpus, config), draw.choice(snapshots)
    continued.restore(data)
    assert continued.inside
    assert continued.snapshot() == data
    list(continued)
    assert continued.measurements == whole.measurements
    assert continued.snapshot() == whole.snapshot()


def initial_weights(method: Method, corpus: Corpus, config: Any) -> dict[str, torch.Tensor]:
    """What a network begins with."""
    spec = method.build(config)
    return Network(spec, shapes(corpus, spec.encoder.width), seed=0).state_dict()
