"""From a file's arrays to a corpus: masks, non-finite values, disagreements, ids."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from msa_models.data import CorpusError, load
from msa_models.data.assemble import assemble
from msa_models.data.raw import RawSplit, Reading

Raw = dict[str, dict[str, Any]]
Save = Callable[..., str]


class TestMasks:
    def test_a_file_gives_masks_for_its_sequences_by_length_or_by_content(self, mmsa: Raw, save: Save) -> None:
        for split in load(save(mmsa)).splits.values():
            assert set(split.masks) == {"text", "audio"}
            np.testing.assert_array_equal(split.masks["text"], [[True, True, True, False, False]] * len(split))
            np.testing.assert_array_equal(split.masks["audio"].sum(axis=1), 1 + np.arange(len(split)) % 6)
            assert split.masks["audio"].dtype == bool

    def test_sequences_of_one_step_stay_sequences(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["vision"] = split["vision"][:, None]
        corpus = load(save(mmsa))
        assert corpus.sequence("vision")
        assert corpus.splits["train"].inputs["vision"].shape == (12, 1, 2)

    @pytest.mark.parametrize(
        ("lengths", "message"),
        [
            ([1, 2], ": 2 for 12 samples"),
            ([1] * 11 + [-3], " are below 0 in 1 samples, such as -3 of sample 11"),
            (["long"] * 12, " are not numbers"),
            ([float("nan")] * 12, " are not finite"),
        ],
    )
    def test_lengths_that_make_no_sense_are_refused(self, lengths: list, message: str, mmsa: Raw, save: Save) -> None:
        mmsa["train"]["audio_lengths"] = lengths
        with pytest.raises(CorpusError, match=f"audio_lengths of train{message}"):
            load(save(mmsa))


class TestNonFinite:
    @pytest.fixture
    def broken(self, mmsa: Raw) -> Raw:
        mmsa["train"]["text"][0, 3, 0] = np.nan
        mmsa["train"]["audio"][2, 0] = -np.inf
        mmsa["test"]["vision"][1, 1] = np.inf
        mmsa["test"]["vision"][2, 1] = 1e300  # too large for float32
        return mmsa

    def test_all_non_finite_features_are_counted_in_one_error(self, broken: Raw, save: Save) -> None:
        with pytest.raises(
            CorpusError, match=r"text of train 1, audio of train 3, vision of test 2; .*nonfinite: zero"
        ):
            load(save(broken))

    def test_they_can_be_set_to_zero_with_a_warning(self, broken: Raw, save: Save) -> None:
        corpus = load(save(broken), nonfinite="zero")
        assert corpus.warnings == (
            "NaN or infinite feature values set to 0: text of train 1, audio of train 3, vision of test 2",
        )
        train = corpus.splits["train"]
        assert train.inputs["text"][0, 3, 0] == 0
        assert np.all(train.inputs["text"][0, 3, 1:] == broken["train"]["text"][0, 3, 1:])
        for split in corpus.splits.values():
            assert all(np.isfinite(array).all() for array in split.inputs.values())

    @pytest.mark.parametrize("task", ["regression", "classification"])
    def test_non_finite_labels_are_refused_whatever_is_done_with_features(
        self, task: str, mmsa: Raw, save: Save
    ) -> None:
        mmsa["valid"][f"{task}_labels"] = mmsa["valid"][f"{task}_labels"].astype(np.float32)
        mmsa["valid"][f"{task}_labels"][:2] = np.nan
        with pytest.raises(CorpusError, match=f"2 of 6 {task} labels of valid are not finite"):
            load(save(mmsa), task=task, nonfinite="zero")

    def test_labels_beyond_float32_are_refused(self, mmsa: Raw, save: Save) -> None:
        mmsa["valid"]["regression_labels"] = [10**40] * 6
        with pytest.raises(CorpusError, match=r"regression labels of valid reach 1e\+40, more than float32 holds"):
            load(save(mmsa))


class TestDisagreements:
    def test_unequal_sample_counts_are_all_listed(self, mmsa: Raw, save: Save) -> None:
        mmsa["train"]["audio"] = mmsa["train"]["audio"][:-2]
        mmsa["test"]["vision"] = mmsa["test"]["vision"][:-1]
        message = (
            "train has 12 labels, 12 text, 10 audio, 12 vision, expected equal counts; "
            "test has 8 labels, 8 text, 8 audio, 7 vision"
        )
        with pytest.raises(CorpusError, match=message):
            load(save(mmsa))

    def test_feature_widths_must_agree_between_splits(self, mmsa: Raw, save: Save) -> None:
        mmsa["valid"]["vision"] = np.ones((6, 9))
        with pytest.raises(CorpusError, match=r"vision has shapes train \(12, 2\), valid \(6, 9\), test \(8, 2\)"):
            load(save(mmsa))

    def test_a_modality_is_sequences_in_all_splits_or_in_none(self, mmsa: Raw, save: Save) -> None:
        mmsa["valid"]["text"] = mmsa["valid"]["text"][:, 0]
        with pytest.raises(CorpusError, match=r"text has shapes train \(12, 5, 4\), valid \(6, 4\)"):
            load(save(mmsa))

    def test_splits_may_be_padded_to_different_numbers_of_steps(self, mmsa: Raw, save: Save) -> None:
        mmsa["valid"]["text"] = mmsa["valid"]["text"][:, 1:]
        assert load(save(mmsa)).splits["valid"].masks["text"].shape == (6, 4)

    def test_an_empty_split_is_refused(self, mmsa: Raw, save: Save) -> None:
        mmsa["valid"] = {key: value[:0] for key, value in mmsa["valid"].items()}
        with pytest.raises(CorpusError, match="no samples in valid; each of train, valid, test needs some"):
            load(save(mmsa))

    def test_a_modality_missing_from_one_split_only_is_named(self, mmsa: Raw, save: Save) -> None:
        del mmsa["test"]["audio"]
        with pytest.raises(CorpusError, match="missing audio in test; a modality must be in all splits or in none"):
            load(save(mmsa))

    def test_a_file_without_features_is_refused(self, mmsa: Raw, save: Save) -> None:
        raw = {split: {"regression_labels": content["regression_labels"]} for split, content in mmsa.items()}
        with pytest.raises(CorpusError, match="no features; expected at least one of text, audio, vision"):
            load(save(raw))

    @pytest.mark.parametrize("shape", [(12,), (12, 2, 3, 4)])
    def test_other_numbers_of_dimensions_are_refused(self, shape: tuple[int, ...], mmsa: Raw, save: Save) -> None:
        mmsa["train"]["audio"] = np.ones(shape)
        message = f"audio of train has shape {shape}; expected (N, d) utterance vectors or (N, T, d) sequences"
        with pytest.raises(CorpusError) as caught:
            load(save(mmsa))
        assert message in str(caught.value)

    @pytest.mark.parametrize("values", [["a"] * 12, np.full((12, 3), "a"), np.ones(12, complex)])
    def test_features_that_are_no_array_of_numbers_are_refused(self, values: Any, mmsa: Raw, save: Save) -> None:
        mmsa["train"]["audio"] = values
        with pytest.raises(CorpusError, match="audio of train is no array of numbers"):
            load(save(mmsa))

    @pytest.mark.parametrize("container", [list, tuple, "object array"])
    def test_features_kept_sample_by_sample_are_stacked(self, container: Any, mmsa: Raw, save: Save) -> None:
        expected = load(save(mmsa)).fingerprint
        samples = list(mmsa["train"]["audio"])
        if container == "object array":
            mmsa["train"]["audio"] = np.empty(12, dtype=object)
            mmsa["train"]["audio"][:] = samples
        else:
            mmsa["train"]["audio"] = container(samples)
        assert load(save(mmsa)).fingerprint == expected


@pytest.mark.parametrize("ids", [["a", "b"], [["a"], ["b", 2.5]], [], "name", np.array("name"), 7])
def test_ids_must_be_one_per_sample(ids: Any, mmsa: Raw, save: Save) -> None:
    mmsa["valid"]["id"] = ids
    with pytest.raises(CorpusError, match=r"[02] ids for 6 samples in valid|ids of valid are a (str|ndarray|int)"):
        load(save(mmsa))


def test_ids_that_are_no_unicode_are_ids_all_the_same(mmsa: Raw, save: Save) -> None:
    """As Python names a file whose name is no UTF-8."""
    mmsa["valid"]["id"] = [f"v\udcff$_${index}" for index in range(6)]
    corpus = load(save(mmsa))
    assert corpus.splits["valid"].ids[3] == "v?$_$3"
    assert len(corpus.fingerprint) == 16


def test_float32_arrays_are_taken_over_without_a_copy() -> None:
    arrays = {split: np.ones((4, 3), np.float32) for split in ("train", "valid", "test")}
    splits = {split: RawSplit(inputs={"text": array}, targets=np.zeros(4)) for split, array in arrays.items()}
    corpus = assemble("x", Reading(task="regression", scale="mosi", splits=splits))
    for split, array in arrays.items():
        assert corpus.splits[split].inputs["text"] is array
        assert splits[split].inputs == {}


def test_the_arrays_of_a_corpus_can_be_written_to(mmsa: Raw, save: Save) -> None:
    for split in load(save(mmsa)).splits.values():
        assert all(array.flags.writeable and array.flags.c_contiguous for array in split.inputs.values())
        assert type(split.inputs["text"]) is np.ndarray


def test_a_read_only_array_is_copied_before_it_is_repaired() -> None:
    values = np.full((4, 3), np.nan, np.float32)
    values.flags.writeable = False
    splits = {s: RawSplit(inputs={"text": values}, targets=np.zeros(4)) for s in ("train", "valid", "test")}
    corpus = assemble("x", Reading(task="regression", scale="mosi", splits=splits), "zero")
    assert np.all(corpus.splits["test"].inputs["text"] == 0)
    assert np.isnan(values).all()
