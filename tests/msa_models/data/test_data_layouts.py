"""Layouts: which labels, classes, ids and modalities a file of each kind gives."""

import copy
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from msa_models.data import CorpusError, layouts, load
from msa_models.data.raw import sample_ids, video_of

Raw = dict[str, dict[str, Any]]
Save = Callable[..., str]


def test_every_module_of_the_package_is_a_layout() -> None:
    assert layouts.names() == tuple(sorted(module.name for module in pkgutil.iter_modules(layouts.__path__)))
    assert {"mmsa", "mult"} <= set(layouts.names())


def test_a_file_of_no_known_layout_is_answered_with_its_keys(save: Save) -> None:
    with pytest.raises(CorpusError, match=r"fit no layout of the known layouts \(.*mmsa, mult.*\); .* has text, stars"):
        load(save({split: {"text": np.ones((2, 3)), "stars": [1, 2]} for split in ("train", "valid", "test")}))


class TestMMSA:
    def test_regression_takes_the_regression_labels(self, mmsa: Raw, save: Save) -> None:
        corpus = load(save(mmsa, "mosi.pkl"))
        assert (corpus.name, corpus.task, corpus.scale, corpus.classes) == ("mosi", "regression", "mosi", ())
        assert corpus.modalities == ("text", "audio", "vision")
        assert corpus.dims == {"text": 4, "audio": 3, "vision": 2}
        assert corpus.num_outputs == 1
        for name, split in corpus.splits.items():
            assert split.targets.dtype == np.float32
            np.testing.assert_array_equal(split.targets, mmsa[name]["regression_labels"])
            np.testing.assert_array_equal(split.ids, mmsa[name]["id"])
            assert split.ids.dtype.kind == "U"
            assert {array.dtype for array in split.inputs.values()} == {np.dtype(np.float32)}
            np.testing.assert_allclose(split.inputs["vision"], mmsa[name]["vision"], rtol=1e-6)

    def test_classification_takes_class_names_from_consistent_annotations(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["annotations"] = np.array([f"Very {word}" for word in split["annotations"]], dtype=object)
        corpus = load(save(mmsa), task="classification")
        assert corpus.classes == ("very_negative", "very_neutral", "very_positive")
        assert (corpus.scale, corpus.num_outputs) == ("", 3)
        assert corpus.splits["test"].targets.dtype == np.int64
        np.testing.assert_array_equal(corpus.splits["test"].targets, mmsa["test"]["classification_labels"])

    def test_classes_keep_their_usual_names_without_consistent_annotations(self, mmsa: Raw, save: Save) -> None:
        shuffled = copy.deepcopy(mmsa)
        shuffled["train"]["annotations"] = np.roll(shuffled["train"]["annotations"], 1)
        absent = copy.deepcopy(mmsa)
        for split in absent.values():
            del split["annotations"]
        for raw in (shuffled, absent):
            assert load(save(raw), task="classification").classes == ("negative", "neutral", "positive")

    def test_a_class_that_never_occurs_still_has_its_index_and_name(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["classification_labels"] = np.where(np.arange(len(split["id"])) % 2, 2, 0)
            split["annotations"] = np.where(np.arange(len(split["id"])) % 2, "Positive", "Negative")
        corpus = load(save(mmsa), task="classification")
        assert corpus.classes == ("negative", "neutral", "positive")
        assert corpus.warnings == ("no training sample of class neutral",)

    def test_more_than_three_classes_are_numbered(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["classification_labels"] = np.arange(len(split["id"])) % 5
            del split["annotations"]
        assert load(save(mmsa), task="classification").classes == tuple(f"class_{k}" for k in range(5))

    def test_labels_of_each_modality_mark_the_sims_scale(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["regression_labels"] = split["regression_labels"] / 3
            split["regression_labels_T"] = split["regression_labels"]
        assert load(save(mmsa)).scale == "sims"
        assert load(save(mmsa), scale="mosi").scale == "mosi"

    def test_labels_between_minus_one_and_one_raise_the_question_of_the_scale(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["regression_labels"] = split["regression_labels"] / 3
        assert load(save(mmsa)).warnings == (
            "all labels lie in -1 to 1; if this is a CH-SIMS corpus, pass scale: sims",
        )
        assert load(save(mmsa), scale="sims").warnings == ()

    def test_labels_beyond_the_scale_are_a_warning(self, mmsa: Raw, save: Save) -> None:
        mmsa["test"]["regression_labels"][0] = 5
        (warning,) = load(save(mmsa)).warnings
        assert warning.startswith("labels reach 5, beyond the mosi scale of 3")

    @pytest.mark.parametrize("gap", ["absent", "None", "of zero size", "an empty list"])
    def test_a_modality_may_be_missing(self, gap: str, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            del split["vision"]
            if gap != "absent":
                split["vision"] = {"None": None, "of zero size": np.zeros((0, 20)), "an empty list": []}[gap]
        assert load(save(mmsa)).modalities == ("text", "audio")

    def test_labels_that_are_not_there_are_missed_by_name(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            del split["regression_labels"]
        message = "needs 'regression_labels', .* missing in train, valid, test; it has labels for task: classification"
        with pytest.raises(CorpusError, match=message):
            load(save(mmsa))

    def test_labels_that_one_split_lacks_are_missed_by_name(self, mmsa: Raw, save: Save) -> None:
        del mmsa["test"]["classification_labels"]
        with pytest.raises(CorpusError, match="needs 'classification_labels', which is missing in test"):
            load(save(mmsa), task="classification")

    def test_a_target_class_is_refused(self, mmsa: Raw, save: Save) -> None:
        with pytest.raises(CorpusError, match="target: happy is for emotion labels"):
            load(save(mmsa), task="classification", target="happy")

    def test_an_archive_reads_as_the_pickle_does(self, mmsa: Raw, save: Save, tmp_path: Any) -> None:
        arrays: dict[str, Any] = {
            f"{split}/{key}": np.asarray(value, dtype=str if key in ("id", "raw_text", "annotations") else None)
            for split, content in mmsa.items()
            for key, value in content.items()
        }
        np.savez(tmp_path / "corpus.npz", **arrays)
        for task in ("regression", "classification"):
            archive, pickled = load(tmp_path / "corpus.npz", task=task), load(save(mmsa), task=task)
            assert archive.fingerprint == pickled.fingerprint
            assert archive.classes == pickled.classes


class TestMulT:
    def test_sentiment_scores_are_flattened(self, mult: Raw, save: Save) -> None:
        corpus = load(save(mult))
        assert (corpus.task, corpus.scale) == ("regression", "mosi")
        np.testing.assert_allclose(corpus.splits["valid"].targets, mult["valid"]["labels"][:, 0, 0], rtol=1e-6)

    def test_rows_of_names_and_bounds_become_one_id_with_its_video(self, mult: Raw, save: Save) -> None:
        ids = load(save(mult)).splits["train"].ids
        assert ids[3] == "train1$_$3.0_3.5"
        assert len(set(ids)) == len(ids)

    @pytest.mark.parametrize(
        ("row", "video"),
        [
            (("2iD-tVS8NPw_3", "1.5", "12.75"), "2iD-tVS8NPw"),
            (("_dI--eQ6qVU_11", "0.0", "2.1"), "_dI--eQ6qVU"),
            (("0h-zjBukYpk", "1.5", "12.75"), "0h-zjBukYpk"),
            (("video_1", "3"), "video_1"),
            (("video_1[3]",), "video_1"),
            (("video_1",), None),
        ],
    )
    def test_the_video_is_told_of_a_name_with_bounds(self, row: tuple[str, ...], video: str | None) -> None:
        (name,) = sample_ids([row], "train", 1).tolist()
        assert video_of(name) == video

    def test_indexed_names_become_video_and_clip(self, mult: Raw, save: Save) -> None:
        for split, content in mult.items():
            content["id"] = [f"{split}-vid[{index}]" for index in range(len(content["labels"]))]
        assert load(save(mult)).splits["test"].ids[5] == "test-vid$_$5"

    def test_samples_without_ids_are_numbered(self, mult: Raw, save: Save) -> None:
        for content in mult.values():
            del content["id"]
        corpus = load(save(mult))
        assert corpus.splits["test"].ids[5] == "test_000005"

    def test_exactly_one_emotion_per_sample_makes_four_classes(self, iemocap: Raw, save: Save) -> None:
        corpus = load(save(iemocap, "iemocap.pkl"), task="classification")
        assert (corpus.name, corpus.classes) == ("iemocap", ("neutral", "happy", "sad", "angry"))
        np.testing.assert_array_equal(corpus.splits["valid"].targets, [0, 1, 2, 3, 0, 1])

    def test_a_target_makes_one_emotion_against_the_rest(self, iemocap: Raw, save: Save) -> None:
        corpus = load(save(iemocap, "iemocap.pkl"), task="classification", target="happy")
        assert (corpus.name, corpus.classes) == ("iemocap_happy", ("not_happy", "happy"))
        np.testing.assert_array_equal(corpus.splits["valid"].targets, [0, 1, 0, 0, 0, 1])

    def test_several_emotions_at_once_ask_for_a_target(self, iemocap: Raw, save: Save) -> None:
        iemocap["train"]["labels"][0] = [[1, 0]] * 4
        iemocap["test"]["labels"][:2] = [[0, 1]] * 4
        with pytest.raises(CorpusError, match=r"of 26 samples 1 have no emotion and 2 have several, .* target: happy"):
            load(save(iemocap), task="classification")
        corpus = load(save(iemocap), task="classification", target="sad")
        np.testing.assert_array_equal(corpus.splits["test"].targets[:4], [1, 1, 1, 0])

    def test_an_unknown_target_is_answered_with_the_emotions(self, iemocap: Raw, save: Save) -> None:
        with pytest.raises(CorpusError, match=r"no target 'hapy'; known are neutral, .*Did you mean 'happy'\?"):
            load(save(iemocap), task="classification", target="hapy")

    def test_regression_on_emotions_points_to_classification(self, iemocap: Raw, save: Save) -> None:
        with pytest.raises(CorpusError, match=r"needs sentiment scores; .* use task: classification"):
            load(save(iemocap))

    def test_classification_on_scores_points_to_regression(self, mult: Raw, save: Save) -> None:
        with pytest.raises(
            CorpusError, match=r"few whole numbers .* found train \(12, 1, 1\), .*; use task: regression"
        ):
            load(save(mult), task="classification")

    @pytest.mark.parametrize("task", ["regression", "classification"])
    def test_an_emotion_as_target_of_scores_is_refused(self, task: str, mult: Raw, save: Save) -> None:
        with pytest.raises(CorpusError, match=r"target: happy picks one of several labels, .* leave target out"):
            load(save(mult), task=task, target="happy")

    def test_labels_of_another_shape_are_refused(self, mult: Raw, save: Save) -> None:
        mult["valid"]["labels"] = np.ones((6, 1, 7))
        with pytest.raises(CorpusError, match=r"regression labels of valid have shape \(6, 1, 7\)"):
            load(save(mult))
