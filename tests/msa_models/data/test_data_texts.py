"""Raw texts of a corpus: kept as they are said, counted, and never part of the fingerprint of its features."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from msa_models.data import SPLITS, CorpusError, load
from msa_models.data.synthetic import Options, generate

Raw = dict[str, dict[str, Any]]
Save = Callable[..., str]
SIZES = {"train": 12, "valid": 6, "test": 8}


def said(count: int) -> list[str]:
    return [f"number {index}, naïvely" for index in range(count)]


@pytest.mark.parametrize(
    "form",
    [
        list,
        np.array,
        lambda texts: np.array(texts, dtype=object),
        lambda texts: [text.encode() for text in texts],
        lambda texts: np.array(texts)[:, None],
    ],
    ids=["list", "array", "objects", "bytes", "column"],
)
def test_texts_of_every_form_become_strings(form: Callable[[list[str]], Any], mmsa: Raw, save: Save) -> None:
    for split, content in mmsa.items():
        content["raw_text"] = form(said(SIZES[split]))
    corpus = load(save(mmsa))
    for name, split in corpus.splits.items():
        assert split.texts is not None
        assert split.texts.tolist() == said(SIZES[name])
        assert all(type(text) is str for text in split.texts)
    assert corpus.warnings == ()


def test_texts_have_a_fingerprint_of_their_own(mmsa: Raw, save: Save) -> None:
    first = load(save(mmsa))
    mmsa["test"]["raw_text"][3] = "some other words"
    second = load(save(mmsa))
    assert first.fingerprint == second.fingerprint
    assert first.texts_fingerprint != second.texts_fingerprint
    for split in mmsa.values():
        del split["raw_text"]
    silent = load(save(mmsa))
    assert (silent.fingerprint, silent.texts_fingerprint) == (first.fingerprint, "")
    assert all(split.texts is None for split in silent.splits.values())


def test_where_one_text_ends_and_the_next_begins_is_part_of_their_fingerprint() -> None:
    corpus = generate(Options(num_train=2, num_valid=2, num_test=2))

    def with_texts(*texts: str) -> str:
        splits = {name: replace(corpus.splits[name], texts=np.array(texts, object)) for name in SPLITS}
        return replace(corpus, splits=splits).texts_fingerprint

    assert with_texts("ab", "c") != with_texts("a", "bc")


def test_a_number_of_texts_that_is_not_that_of_the_samples_is_refused(mmsa: Raw, save: Save) -> None:
    mmsa["valid"]["raw_text"] = said(5)
    with pytest.raises(CorpusError, match="5 raw_text for 6 samples in valid; expected one each, or no raw_text"):
        load(save(mmsa))


def test_empty_texts_are_a_warning_with_their_number(mmsa: Raw, save: Save) -> None:
    mmsa["train"]["raw_text"][:3] = "", "  ", None
    mmsa["test"]["raw_text"][0] = ""
    corpus = load(save(mmsa))
    assert corpus.warnings == ("empty raw_text: 3 in train, 1 in test",)
    assert corpus.splits["train"].texts is not None
    assert corpus.splits["train"].texts[2] == ""


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (lambda raw: raw["valid"].pop("raw_text"), "raw_text is missing in valid, so no text encoder can read"),
        (lambda raw: raw["test"].update(raw_text=np.arange(8.0)), "raw_text of test holds float, no text, so no text"),
    ],
    ids=["missing in a split", "numbers"],
)
def test_texts_that_no_encoder_could_read_are_a_warning_since_the_features_are_of_use_without(
    change: Callable[[Raw], Any], warning: str, mmsa: Raw, save: Save
) -> None:
    change(mmsa)
    corpus = load(save(mmsa))
    assert corpus.texts_fingerprint == ""
    (found,) = corpus.warnings
    assert found.startswith(warning)


def test_texts_stay_with_their_samples_when_modalities_are_chosen_and_features_standardised(
    mmsa: Raw, save: Save
) -> None:
    for split, content in mmsa.items():
        content["raw_text"] = said(SIZES[split])
    corpus = load(save(mmsa)).select(["audio"]).standardised()
    assert corpus.splits["test"].texts is not None
    assert corpus.splits["test"].texts.tolist() == said(8)


def test_the_embedded_corpus_says_what_its_text_features_say() -> None:
    corpus = generate(Options(num_train=1500, text_strength=0.8))
    train = corpus.splits["train"]
    assert train.texts is not None
    grades = {word: grade for grade, word in enumerate(("awful", "bad", "weak", "plain", "fair", "good", "great"))}
    means = [np.mean([grades[word] for word in text.split() if word in grades]) for text in train.texts]
    assert 0.65 < np.corrcoef(means, train.targets)[0, 1] < 0.8  # of at most the strength
    assert len(set(train.texts)) > 1400


def test_the_texts_of_the_embedded_corpus_follow_its_seed_and_leave_its_features_alone() -> None:
    first, again, other = generate(Options()), generate(Options()), generate(Options(seed=1))
    assert first.texts_fingerprint == again.texts_fingerprint != other.texts_fingerprint
    assert first.fingerprint == "3e41d752d8db6ecc"  # as before it said anything
