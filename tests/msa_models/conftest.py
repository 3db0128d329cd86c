"""Small corpora and small CP-SL trainings, of which a test changes what it is about."""

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from msa_models import data
from msa_models.config import EncoderConfig, TrainingConfig
from msa_models.data.corpus import Corpus
from msa_models.methods import cpsl

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]

SIZES = {"num_train": 64, "num_valid": 24, "num_test": 16, "steps": 5}
WIDTHS = {"text_width": 6, "audio_width": 4, "vision_width": 5}


@cache
def _corpus(task: str, **options: Any) -> Corpus:
    return data.load("synthetic", task=task, options=SIZES | WIDTHS | options).standardised()


@pytest.fixture(scope="session")
def make_corpus() -> MakeCorpus:
    """A standardised synthetic corpus: `make_corpus("classification", layout="utterances", num_train=17)`."""

    def make(task: str = "regression", **options: Any) -> Corpus:
        return _corpus(task, **options)

    return make


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    """A small CP-SL: `make_config(training={"epochs": 5}, encoder={"kind": "conv"}, conflict_penalty=None)`."""

    def make(*, training: dict[str, Any] | None = None, encoder: dict[str, Any] | None = None, **parts: Any):
        return cpsl.Config(
            encoder=dataclasses.replace(EncoderConfig(width=8, heads=2), **encoder or {}),
            training=dataclasses.replace(TrainingConfig(epochs=3, batch_size=16, learning_rate=0.01), **training or {}),
            **parts,
        )

    return make
