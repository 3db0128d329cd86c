"""Small corpora in every layout, for suites that run over all components and methods found on disk."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from msa_models import data
from msa_models.data.corpus import Corpus, Split
from tests import tiny_encoders

MakeCorpus = Callable[[str, str], Corpus]

UTTERANCES = {  # layout -> modalities that come as utterance vectors
    "sequences": (),
    "utterances": ("text", "audio", "vision"),
    "text without time": ("text",),
    "only text in time": ("audio", "vision"),
}
OPTIONS = {"num_train": 24, "num_valid": 12, "num_test": 8, "steps": 4}
WIDTHS = {"text_width": 6, "audio_width": 4, "vision_width": 5}


@cache
def _corpus(task: str, layout: str) -> Corpus:
    corpus = data.load("synthetic", task=task, options=OPTIONS | WIDTHS)
    splits = {name: _without_time(split, UTTERANCES[layout]) for name, split in corpus.splits.items()}
    return replace(corpus, splits=splits).standardised()


def _without_time(split: Split, modalities: tuple[str, ...]) -> Split:
    means = {
        name: np.stack(
            [values[mask].mean(0) for values, mask in zip(split.inputs[name], split.masks[name], strict=True)]
        )
        for name in modalities
    }
    masks = {name: mask for name, mask in split.masks.items() if name not in modalities}
    return replace(split, inputs=split.inputs | means, masks=masks)


@pytest.fixture(scope="session")
def make_corpus() -> MakeCorpus:
    """A standardised corpus: `make_corpus("classification", "text without time")`."""
    return _corpus


@pytest.fixture(scope="session")
def make_tokens() -> MakeCorpus:
    """The same with token ids in the place of text features, for a tiny BERT that is fine-tuned."""
    encoder = tiny_encoders.pretrained("bert")
    return cache(lambda task, layout: tiny_encoders.with_tokens(_corpus(task, layout), encoder))
