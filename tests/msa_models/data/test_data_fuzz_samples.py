"""Samples of any content, in tuples and in the place of unpadded sequences, and more of them than there is memory."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msa_models.data import CorpusError
from tests.msa_models.data.conftest import build_mmsa, build_mult, build_tuples
from tests.msa_models.data.hostile import arrays, many, outcome, things

BASES: dict[str, Callable[[], Any]] = {"mmsa": build_mmsa, "mult": build_mult, "tuples": build_tuples}


@pytest.mark.slow
@many
@given(
    places=st.lists(
        st.tuples(st.sampled_from(["train", "valid", "test"]), st.integers(0, 5), st.integers(0, 5)),
        min_size=1,
        max_size=3,
    ),
    value=things,
    task=st.sampled_from(["regression", "classification", "multilabel"]),
)
def test_any_content_of_a_tuple_is_a_corpus_or_one_clear_line(
    places: list[tuple[str, int, int]], value: Any, task: str
) -> None:
    raw = build_tuples()
    for split, sample, member in places:
        (words, visual, acoustic, *_), label, segment = raw[split][sample]
        parts = [words, visual, acoustic, label, segment, ()]
        parts[member] = value
        raw[split][sample] = ((*parts[:3], *([value] if member == 5 else [])), *parts[3:5])
    outcome(pickle.dumps(raw), task=task)


@pytest.mark.slow
@many
@given(
    key=st.sampled_from(["text", "audio", "vision"]),
    splits=st.sets(st.sampled_from(["train", "valid", "test"]), min_size=1),
    rows=st.lists(arrays, min_size=6, max_size=6),
    kind=st.sampled_from([list, tuple]),
    mult=st.booleans(),
)
def test_any_arrays_in_the_place_of_ragged_ones_are_a_corpus_or_one_clear_line(
    key: str, splits: set[str], rows: list[np.ndarray], kind: Callable[..., Any], mult: bool
) -> None:
    raw = build_mult() if mult else build_mmsa()
    for split in splits:
        raw[split][key] = kind(rows[index % 6] for index in range(len(raw[split]["id"])))
    outcome(pickle.dumps(raw))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("shape", [(300, 300), (600_000, 1)])
def test_few_bytes_that_stand_for_more_than_there_is_memory_are_refused(base: str, shape: tuple[int, int]) -> None:
    """A pickle may name one array many times, and one long sequence makes the padding of all others long."""
    raw, large, small = BASES[base](), np.ones(shape, np.float32), np.ones((1, shape[1]), np.float32)
    many_of_it = 8_000 if shape[1] > 1 else 2
    samples = [large] * many_of_it + [small] * 1_000
    train = raw["train"]
    if base == "tuples":
        raw["train"] = [((["so"], sample, sample), [[0.5]], "video[0]") for sample in samples]
    else:
        train["audio"] = samples
        train["regression_labels" if base == "mmsa" else "labels"] = np.zeros(len(samples))
        train["id"] = ["video"] * len(samples)
    content = pickle.dumps(raw)
    assert len(content) < 3_000_000
    found = outcome(content)
    assert isinstance(found, CorpusError)
    assert "memory" in str(found)
