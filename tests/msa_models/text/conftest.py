"""Small corpora of token ids with a tiny encoder, and small CP-SL trainings that fine-tune it."""

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from msa_models.data.corpus import Corpus
from msa_models.methods import cpsl
from msa_models.metrics import Direction
from msa_models.text.encoder import Pretrained, TextEncoder
from msa_models.training import Objective, Training
from tests import tiny_encoders

MakeEncoder = Callable[..., Pretrained]
MakeTokens = Callable[..., Corpus]
MakeTraining = Callable[..., Training]

SETTINGS: dict[str, Any] = {"mode": "finetune", "max_length": 16, "learning_rate": 1e-3}
OBJECTIVES = {
    "regression": Objective(metric="valid/corr", direction=Direction.MAXIMIZE),
    "classification": Objective(metric="valid/f1_macro", direction=Direction.MAXIMIZE),
}


@pytest.fixture(scope="session")
def make_encoder() -> MakeEncoder:
    """A tiny pretrained encoder: `make_encoder("deberta", seed=1, num_hidden_layers=3)`."""

    @cache
    def make(kind: str = "bert", seed: int = 0, **changes: Any) -> Pretrained:
        return tiny_encoders.pretrained(kind, seed, **changes)

    return make


@pytest.fixture(scope="session")
def make_tokens(make_corpus: Callable[..., Corpus], make_encoder: MakeEncoder) -> MakeTokens:
    """A corpus to fine-tune on: `make_tokens("bert", "classification", num_train=17)`; audio and vision as vectors."""

    def make(kind: str = "bert", task: str = "regression", encoder: Pretrained | None = None, **options: Any) -> Corpus:
        corpus = make_corpus(task, **({"layout": "utterances"} | options))
        return tiny_encoders.with_tokens(corpus, encoder or make_encoder(kind))

    return make


@pytest.fixture(scope="session")
def make_training(make_config: Callable[..., cpsl.Config]) -> MakeTraining:
    """A training that fine-tunes: `make_training(corpus, {"pooling": "cls"}, seed=3, gated_fusion=None)`."""

    def make(corpus: Corpus, text: dict[str, Any] | None = None, *, seed: int = 0, **parts: Any) -> Training:
        assert corpus.pretrained is not None
        encoder = TextEncoder(**{"name": corpus.pretrained.name, **SETTINGS, **(text or {})})
        config = dataclasses.replace(make_config(**parts), text_encoder=encoder)
        return Training(cpsl.build(config), corpus, seed=seed, objective=OBJECTIVES[corpus.task])

    return make
