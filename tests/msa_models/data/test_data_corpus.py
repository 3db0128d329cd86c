"""A corpus in memory: selection, standardisation against scikit-learn, fingerprint."""

import dataclasses
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from msa_models.data import Corpus, CorpusError, Split, mapped

SIZES = {"train": 30, "valid": 9, "test": 11}


def build(**changed: Any) -> Corpus:
    """Sequences of text and of `pulse`, utterance vectors of vision; steps beyond a length hold rubbish."""
    draws = np.random.default_rng(3)
    splits = {}
    for name, count in SIZES.items():
        steps = np.arange(4) < draws.integers(1, 5, count)[:, None]
        inputs = {
            "vision": draws.normal(5, 2, (count, 3)).astype(np.float32),
            "pulse": draws.normal(-3, 9, (count, 4, 2)).astype(np.float32),
            "text": draws.normal(100, 0.1, (count, 4, 5)).astype(np.float32),
        }
        inputs["text"][~steps] = 1e6
        inputs["text"][..., 2] = 0.1
        splits[name] = Split(
            inputs=inputs,
            masks={"text": steps, "pulse": np.ones((count, 4), bool)},
            targets=draws.normal(size=count).astype(np.float32),
            ids=np.array([f"{name}$_${index}" for index in range(count)]),
        )
    fields: dict[str, Any] = {"name": "x", "task": "regression", "scale": "mosi", "classes": (), "splits": splits}
    return Corpus(**(fields | changed))


def test_modalities_come_in_the_usual_order_whatever_the_order_of_the_file() -> None:
    corpus = build()
    assert corpus.modalities == ("text", "vision", "pulse")
    assert corpus.dims == {"text": 5, "vision": 3, "pulse": 2}
    assert [corpus.sequence(modality) for modality in corpus.modalities] == [True, False, True]
    assert {name: len(split) for name, split in corpus.splits.items()} == SIZES


def test_classes_set_the_number_of_outputs() -> None:
    assert build().num_outputs == 1
    assert build(task="classification", scale="", classes=("a", "b")).num_outputs == 2


def test_selection_keeps_the_chosen_modalities_and_shares_their_arrays() -> None:
    corpus = build(warnings=("careful",))
    chosen = corpus.select(["pulse", "text"])
    assert chosen.modalities == ("text", "pulse")
    assert chosen.warnings == ("careful",)
    for name, split in chosen.splits.items():
        assert set(split.masks) == {"text", "pulse"}
        assert split.inputs["text"] is corpus.splits[name].inputs["text"]
        assert split.targets is corpus.splits[name].targets
    assert corpus.select(["vision"]).splits["train"].masks == {}


def test_an_unknown_modality_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CorpusError, match=r"no modality 'txet' in corpus 'x'; known are text, .*mean 'text'\?"):
        build().select(["vision", "txet"])
    with pytest.raises(CorpusError, match="no modality chosen"):
        build().select([])


@pytest.mark.parametrize("chunk", [7, 2**21])
def test_standardisation_agrees_with_scikit_learn_on_the_real_steps(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "CHUNK_ELEMENTS", chunk)
    raw, corpus = build(), build().standardised()
    for modality in raw.modalities:
        train = raw.splits["train"]
        mask = train.masks.get(modality, np.ones(len(train), bool))
        scaler = StandardScaler().fit(train.inputs[modality][mask].astype(np.float64))
        for name, split in corpus.splits.items():
            found, original = split.inputs[modality], raw.splits[name].inputs[modality]
            mask = split.masks.get(modality, np.ones(len(split), bool))
            assert found.dtype == np.float32
            varying = np.array([not (modality == "text" and feature == 2) for feature in range(found.shape[-1])])
            np.testing.assert_allclose(
                found[mask][:, varying], np.asarray(scaler.transform(original[mask]))[:, varying], rtol=1e-4, atol=1e-4
            )
            assert np.all(found[mask][:, ~varying] == 0)
            assert np.all(found[~mask] == 0)


def test_standardised_training_features_have_mean_zero_and_variance_one() -> None:
    train = build().standardised().splits["train"]
    real = train.inputs["text"][train.masks["text"]].astype(np.float64)
    np.testing.assert_allclose(real.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(real.std(axis=0), [1, 1, 0, 1, 1], atol=1e-5)


def test_a_feature_constant_in_training_becomes_zero_in_every_split() -> None:
    corpus = build()
    corpus.splits["test"].inputs["text"][..., 2] = 1e6
    assert np.all(corpus.standardised().splits["test"].inputs["text"][..., 2] == 0)


def test_token_ids_stay_what_they_are_beside_features_that_are_standardised() -> None:
    corpus = build()
    ids = {name: np.ones(split.inputs["text"].shape[:2], np.int64) for name, split in corpus.splits.items()}
    expected = corpus.standardised().splits["test"].inputs
    for name, split in corpus.splits.items():
        split.inputs["text"] = ids[name]
    found = corpus.standardised().splits["test"].inputs
    assert found["text"] is ids["test"]
    np.testing.assert_array_equal(found["vision"], expected["vision"])
    np.testing.assert_array_equal(found["pulse"], expected["pulse"])


def test_rounding_noise_is_not_blown_up_to_unit_variance() -> None:
    corpus = build()
    values = corpus.splits["train"].inputs["vision"]
    values[:, 0] = np.float32(0.1)
    values[::2, 0] = np.nextafter(np.float32(0.1), np.float32(1))
    assert np.all(corpus.standardised().splits["train"].inputs["vision"][:, 0] == 0)


def test_only_the_training_split_sets_the_statistics() -> None:
    corpus = build()
    before = corpus.standardised().splits["train"].inputs["vision"].copy()
    corpus.splits["test"].inputs["vision"][:] *= 50
    corpus.splits["valid"].inputs["vision"][:] += 50
    np.testing.assert_array_equal(corpus.standardised().splits["train"].inputs["vision"], before)


def test_standardisation_leaves_the_original_alone() -> None:
    corpus = build()
    corpus.standardised()
    assert corpus.fingerprint == build().fingerprint


@pytest.mark.slow
def test_standardisation_needs_little_more_memory_than_its_result() -> None:
    values = np.random.default_rng(0).normal(size=(3000, 50, 64)).astype(np.float32)  # 38 MB, 77 MB in double precision
    tiny = np.ones((1, 50, 64), np.float32)
    splits = {
        name: Split(
            inputs={"text": array},
            masks={"text": np.ones(array.shape[:2], bool)},
            targets=np.zeros(len(array), np.float32),
            ids=np.array(["x"] * len(array)),
        )
        for name, array in (("train", values), ("valid", tiny), ("test", tiny))
    }
    corpus = build(splits=splits)
    tracemalloc.start()
    try:
        result = corpus.standardised()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.splits["train"].inputs["text"].nbytes == values.nbytes
    assert peak < 2.6 * values.nbytes  # a float64 copy beside the result would take three times as much


FIELDS: dict[str, Callable[[Split], Split]] = {
    "a feature": lambda split: dataclasses.replace(
        split, inputs=split.inputs | {"vision": split.inputs["vision"] + np.float32(1e-6)}
    ),
    "the width of a modality": lambda split: dataclasses.replace(
        split, inputs=split.inputs | {"vision": split.inputs["vision"].reshape(-1, 1)}
    ),
    "a mask": lambda split: dataclasses.replace(split, masks=split.masks | {"text": ~split.masks["text"]}),
    "a target": lambda split: dataclasses.replace(split, targets=split.targets + 1),
    "a label of one modality": lambda split: dataclasses.replace(split, unimodal={"text": split.targets}),
    "an id": lambda split: dataclasses.replace(split, ids=np.char.add(split.ids, "x")),
}


@pytest.mark.parametrize("change", FIELDS)
@pytest.mark.parametrize("split", SIZES)
def test_the_fingerprint_changes_with(change: str, split: str) -> None:
    corpus = build()
    changed = dataclasses.replace(corpus, splits=corpus.splits | {split: FIELDS[change](corpus.splits[split])})
    assert changed.fingerprint != corpus.fingerprint


def labelled(**labels: float) -> Corpus:
    """With labels of single modalities: their targets times a factor."""
    corpus = build()
    splits = {
        name: dataclasses.replace(split, unimodal={modality: split.targets * by for modality, by in labels.items()})
        for name, split in corpus.splits.items()
    }
    return dataclasses.replace(corpus, splits=splits)


def test_the_fingerprint_knows_whose_labels_are_those_of_one_modality() -> None:
    corpora = (build(), labelled(text=2), labelled(vision=2), labelled(text=3), labelled(text=2, vision=2))
    assert len({corpus.fingerprint for corpus in corpora}) == 5
    assert labelled(vision=2, text=3).fingerprint == labelled(text=3, vision=2).fingerprint


def test_selection_and_standardisation_keep_the_labels_of_the_modalities_that_stay() -> None:
    corpus = labelled(text=2, vision=3)
    chosen = corpus.select(["pulse", "text"]).standardised()
    for name, split in chosen.splits.items():
        assert list(split.unimodal) == ["text"]
        assert split.unimodal["text"] is corpus.splits[name].unimodal["text"]


def test_several_labels_set_the_number_of_outputs_even_where_there_is_one() -> None:
    for classes in (("happy",), ("happy", "sad")):
        assert build(task="multilabel", scale="", classes=classes).num_outputs == len(classes)


def test_the_fingerprint_changes_with_modalities_scale_and_classes() -> None:
    renamed = build()
    for split in renamed.splits.values():
        split.inputs["audio"] = split.inputs.pop("vision")
    prints = {
        build().fingerprint,
        renamed.fingerprint,
        build().select(["text"]).fingerprint,
        build(scale="sims").fingerprint,
        build(task="classification", scale="", classes=("a", "b")).fingerprint,
        build(task="classification", scale="", classes=("a", "c")).fingerprint,
    }
    assert len(prints) == 6


def test_the_fingerprint_is_that_of_the_data_not_of_its_name_warnings_or_memory_layout() -> None:
    corpus = build(name="other", warnings=("careful",))
    for split in corpus.splits.values():
        split.inputs["text"] = np.asfortranarray(split.inputs["text"])
    wider = {name: dataclasses.replace(split, ids=split.ids.astype("U90")) for name, split in corpus.splits.items()}
    corpus = dataclasses.replace(corpus, splits=dict(reversed(wider.items())))
    assert corpus.fingerprint == build().fingerprint
    assert len(corpus.fingerprint) == 16
    assert set(corpus.fingerprint) <= set("0123456789abcdef")
