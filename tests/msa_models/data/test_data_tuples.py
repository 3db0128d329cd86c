"""Lists of tuples, as MAG-BERT, MISA and MMIM keep their corpora."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from msa_models.data import CorpusError, load
from tests.msa_models.data.cases import CASES, SIZES
from tests.msa_models.data.conftest import build_tuples

Raw = dict[str, dict[str, Any]]
Save = Callable[..., str]


def test_words_are_joined_and_sequences_padded_behind(save: Save) -> None:
    raw = CASES["tuples"]()
    corpus = load(save(raw))
    assert (corpus.task, corpus.scale, corpus.dims) == ("regression", "mosi", {"audio": 74, "vision": 47})
    assert {name: len(split) for name, split in corpus.splits.items()} == SIZES
    for name, split in corpus.splits.items():
        assert split.texts is not None
        for row, ((words, visual, acoustic), label, segment) in enumerate(raw["dev" if name == "valid" else name]):
            assert split.texts[row] == " ".join(words)
            assert split.targets[row] == label[0, 0]
            assert split.ids[row] == segment.replace("[", "$_$").rstrip("]")
            for modality, values in (("vision", visual), ("audio", acoustic)):
                assert split.masks[modality][row].sum() == len(values)
                np.testing.assert_array_equal(split.inputs[modality][row][: len(values)], values)
                assert not split.inputs[modality][row][len(values) :].any()


def test_numbers_of_words_are_passed_over_where_the_words_are_there_too(save: Save) -> None:
    """As MISA has them; MMIM has no numbers, and the counts of steps as well."""
    raw = build_tuples()
    expected = load(save(raw))
    for more, numbers in (((), True), ((5, 7), False)):
        changed = {
            split: [
                ((list(range(len(words))) if numbers else [], *features, words, *more), label, segment)
                for (words, *features), label, segment in each
            ]
            for split, each in raw.items()
        }
        corpus = load(save(changed))
        assert corpus.fingerprint == expected.fingerprint
        assert corpus.texts_fingerprint == expected.texts_fingerprint
        assert corpus.warnings == expected.warnings


def test_numbers_of_words_alone_are_no_text_which_a_warning_says(save: Save) -> None:
    raw = build_tuples()
    changed = {
        split: [((np.arange(len(words)), *features), *rest) for (words, *features), *rest in each]
        for split, each in raw.items()
    }
    corpus = load(save(changed))
    assert corpus.fingerprint == load(save(raw)).fingerprint
    assert corpus.texts_fingerprint == ""
    assert corpus.warnings[0] == "words are numbers of a vocabulary that is not in the file, so there is no text"


def test_words_may_be_bytes_and_segments_missing(save: Save) -> None:
    raw = build_tuples()
    changed = {
        split: [(([word.encode() for word in words], *features), label) for (words, *features), label, _ in each]
        for split, each in raw.items()
    }
    corpus, expected = load(save(changed)), load(save(raw))
    assert corpus.texts_fingerprint == expected.texts_fingerprint
    assert corpus.splits["test"].ids.tolist()[:2] == ["test_000000", "test_000001"]
    for name, split in corpus.splits.items():
        np.testing.assert_array_equal(split.inputs["audio"], expected.splits[name].inputs["audio"])


def test_emotions_and_sentiment_are_picked_by_target(save: Save) -> None:
    raw = build_tuples()
    wide = {
        split: [
            (features, np.array([[label.item(), 0, 0, 0.4, 0, 0, index % 2]]), segment)
            for index, (features, label, segment) in enumerate(each)
        ]
        for split, each in raw.items()
    }
    np.testing.assert_array_equal(
        load(save(wide), target="sentiment").splits["test"].targets, load(save(raw)).splits["test"].targets
    )
    fear = load(save(wide), task="classification", target="fear").splits["train"].targets
    np.testing.assert_array_equal(fear, np.arange(12) % 2)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({}, r"sample 2 of valid is a dict; expected \(\(words, visual, acoustic\), label, segment\)"),
        ((1, 2, 3, 4), r"sample 2 of valid is a tuple of 4; expected"),
        (([], 1, "x"), r"the features of sample 2 of valid are a list of 0; expected"),
        ((5, 1, "x"), r"the features of sample 2 of valid are a int; expected"),
        (((5, np.ones((3, 4)), np.ones((3, 3))), [[0]], "x"), "the words of sample 2 of valid are a int; expected"),
        (((["a"], np.ones((3, 4)), "loud"), [[0]], "x"), r"audio of valid is no array .* in sample 2 \('x'\)"),
        (
            ((["a"], np.ones((3, 9)), np.ones((3, 3))), [[0]], "x"),
            r"vision of valid: sample 2 \('x'\) has shape \(3, 9\), sample 0 .* \(1, 4\)",
        ),
        (
            ((["a"], np.ones((3, 4)), np.ones((3, 3))), [[0, 1]], "x"),
            r"label of sample 2 of valid has shape \(2,\), that",
        ),
        (((["a"], np.ones((3, 4)), np.ones((3, 3))), "?", "x"), "the label of sample 2 of valid is no number"),
    ],
)
def test_what_is_no_such_tuple_is_named(broken: Any, message: str, save: Save) -> None:
    raw = build_tuples()
    raw["valid"][2] = broken
    with pytest.raises(CorpusError, match=message):
        load(save(raw))


def test_a_split_without_samples_is_named(save: Save) -> None:
    with pytest.raises(CorpusError, match="no samples in valid"):
        load(save(build_tuples() | {"valid": []}))


def test_vectors_of_words_may_be_lists(save: Save) -> None:
    raw, found = build_tuples(), []
    for make in (np.asarray, np.ndarray.tolist):
        vectors = {
            split: [
                ((make(np.full((len(features[0]), 2), 0.5, np.float32)), *features), label, segment)
                for (_, *features), label, segment in each
            ]
            for split, each in raw.items()
        }
        found.append(load(save(vectors)))
    assert found[0].dims["text"] == 2
    assert found[0].fingerprint == found[1].fingerprint


def test_lists_and_dictionaries_do_not_mix(save: Save) -> None:
    raw = build_tuples()
    with pytest.raises(CorpusError, match="its test split is no list, as train is"):
        load(save(raw | {"test": CASES["humor"]()["test"]}))
