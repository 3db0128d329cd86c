"""What labels of any shape are taken for: classes by value, emotions, sentiment, and labels of one modality."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from msa_models.data import CorpusError, layouts, load
from msa_models.data.raw import Reading, Request
from tests.msa_models.data.cases import CASES, EMOTIONS

Raw = dict[str, dict[str, Any]]
Save = Callable[..., str]


def reading(raw: Raw, **asked: Any) -> Reading:
    return layouts.find(raw).read(raw, Request(**asked))


class TestClassesOfMMSA:
    @pytest.mark.parametrize(
        ("values", "classes", "expected"),
        [
            ([-1.0, 0.0, 1.0], ("negative", "neutral", "positive"), [0, 1, 2]),
            ([0, 1, 2], ("negative", "neutral", "positive"), [0, 1, 2]),
            ([-1, 1], ("negative", "positive"), [0, 1]),
            ([0, 1], ("class_0", "class_1"), [0, 1]),
            ([5, 1, 3], ("class_1", "class_3", "class_5"), [2, 0, 1]),
            ([0.5, -0.5], ("class_-0.5", "class_0.5"), [1, 0]),
            ([True, False], ("class_0", "class_1"), [1, 0]),
            ([1.0, -0.0], ("class_0", "class_1"), [1, 0]),  # what rounding leaves of -0.3
        ],
    )
    def test_any_few_values_are_classes_in_order(
        self, values: list[float], classes: tuple[str, ...], expected: list[int], mmsa: Raw, save: Save
    ) -> None:
        for split in mmsa.values():
            split["classification_labels"] = np.resize(values, len(split["id"]))
            del split["annotations"]
        corpus = load(save(mmsa), task="classification")
        assert corpus.classes == classes
        for split in corpus.splits.values():
            np.testing.assert_array_equal(split.targets, np.resize(expected, len(split)))

    def test_classes_of_minus_one_to_one_are_negative_neutral_and_positive(self, save: Save) -> None:
        raw = CASES["classes_minus_one"]()
        corpus = load(save(raw), task="classification")
        assert (corpus.classes, corpus.warnings) == (("negative", "neutral", "positive"), ())
        for name, split in corpus.splits.items():
            np.testing.assert_array_equal(split.targets, raw[name]["classification_labels"] + 1)

    def test_two_classes_take_their_names_from_annotations(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["classification_labels"] = (split["regression_labels"] > 0).astype(int)
            split["annotations"] = np.where(split["classification_labels"] == 1, "Positive", "Negative")
        assert load(save(mmsa), task="classification").classes == ("negative", "positive")

    def test_classes_are_those_of_all_splits_together(self, mmsa: Raw, save: Save) -> None:
        mmsa["test"]["classification_labels"][0] = 7
        corpus = load(save(mmsa), task="classification")
        assert corpus.classes == ("class_0", "class_1", "class_2", "class_7")
        assert corpus.splits["test"].targets[0] == 3
        assert corpus.warnings == ("no training sample of class class_7",)

    def test_without_class_labels_the_signs_of_scores_are_classes(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            del split["classification_labels"]
        corpus = load(save(mmsa), task="classification")
        assert corpus.classes == ("negative", "neutral", "positive")
        assert "signs of regression_labels" in corpus.warnings[0]
        for name, split in corpus.splits.items():
            np.testing.assert_array_equal(split.targets, np.sign(mmsa[name]["regression_labels"]) + 1)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (np.full(12, 1e40), "take the value 1e.40"),
            (np.full(12, np.nan), "12 of 12 classification labels of train are not finite"),
            (["a"] * 12, "classification labels of train are not numbers"),
            (np.full(12, 1j), "classification labels of train are not numbers .their type is complex128"),
        ],
    )
    def test_labels_that_are_no_classes_are_refused(self, labels: Any, message: str, mmsa: Raw, save: Save) -> None:
        mmsa["train"]["classification_labels"] = labels
        with pytest.raises(CorpusError, match=message):
            load(save(mmsa), task="classification")

    def test_scores_in_the_place_of_classes_are_refused(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["classification_labels"] = split["vision"][:, 0]
        with pytest.raises(CorpusError, match=r"class labels take 26 values, such as .*; .* task: regression\?"):
            load(save(mmsa), task="classification")

    def test_one_class_is_no_task(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["classification_labels"] = np.ones(len(split["id"]))
        with pytest.raises(CorpusError, match="all class labels are 1; expected at least two classes"):
            load(save(mmsa), task="classification")


class TestLabelsOfOneModality:
    def test_scores_of_text_audio_and_vision_are_kept(self, mmsa: Raw) -> None:
        for split in mmsa.values():
            for letter, shift in (("T", 0.1), ("A", 0.2), ("V", 0.3)):
                split[f"regression_labels_{letter}"] = split["regression_labels"][:, None] + shift
        found = reading(mmsa)
        assert (found.scale, found.warnings) == ("sims", ())
        for name, split in found.splits.items():
            assert list(split.unimodal) == ["text", "audio", "vision"]
            assert split.unimodal["audio"].dtype == np.float32
            np.testing.assert_allclose(split.unimodal["audio"], mmsa[name]["regression_labels"] + 0.2, rtol=1e-6)

    def test_classes_of_one_modality_are_numbered_as_those_of_all(self, mmsa: Raw) -> None:
        for split in mmsa.values():
            split["classification_labels"] = split["classification_labels"] - 1
            split["classification_labels_V"] = np.roll(split["classification_labels"], 1)
        found = reading(mmsa, task="classification").splits["train"]
        np.testing.assert_array_equal(found.unimodal["vision"], np.roll(found.targets, 1))

    def test_a_class_of_one_modality_that_is_none_of_all_is_left_out_with_a_warning(self, mmsa: Raw) -> None:
        for split in mmsa.values():
            split["classification_labels_A"] = split["classification_labels"] + 5
        found = reading(mmsa, task="classification")
        assert found.warnings == ("classification_labels_A is not read: class 5 is none of 0, 1, 2",)
        assert found.splits["train"].unimodal == {}

    @pytest.mark.parametrize("labels", [[np.nan] * 6, [1.0] * 5, ["?"] * 6, None])
    def test_labels_of_one_modality_that_cannot_be_read_are_left_out_with_a_warning(
        self, labels: Any, mmsa: Raw, save: Save
    ) -> None:
        for split in mmsa.values():
            split["regression_labels_T"] = split["regression_labels_A"] = split["regression_labels"]
        mmsa["valid"]["regression_labels_T"] = labels
        found = reading(mmsa)
        assert {tuple(split.unimodal) for split in found.splits.values()} == {("audio",)}
        assert [warning.partition(":")[0] for warning in load(save(mmsa), scale="mosi").warnings] == [
            "regression_labels_T is not read"
        ]


class TestTokens:
    def test_ids_mask_and_segments_are_kept_as_whole_numbers(self, mmsa: Raw) -> None:
        for split in mmsa.values():
            split["text_bert"] = np.arange(len(split["id"]) * 3 * 5, dtype=np.float32).reshape(-1, 3, 5)
        for name, split in reading(mmsa).splits.items():
            assert split.tokens is not None
            assert split.tokens.dtype == np.int64
            np.testing.assert_array_equal(split.tokens, mmsa[name]["text_bert"])

    @pytest.mark.parametrize(
        "tokens",
        [np.zeros((12, 5, 3)), np.zeros((11, 3, 5)), np.full((12, 3, 5), -1), np.full((12, 3, 5), 0.5), "words"],
    )
    def test_what_is_no_token_ids_is_passed_over_with_a_warning(self, tokens: Any, mmsa: Raw, save: Save) -> None:
        mmsa["train"]["text_bert"] = tokens
        assert reading(mmsa).splits["train"].tokens is None
        (warning,) = load(save(mmsa)).warnings
        assert warning.startswith("text_bert is not read: ")

    def test_what_is_no_token_ids_in_every_split_is_one_warning(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["text_bert"] = np.full((len(split["id"]), 3, 5), 0.5)
        (warning,) = load(save(mmsa)).warnings
        assert warning.startswith("text_bert is not read: ")


class TestOneNumberInMulT:
    def test_few_whole_numbers_are_classes(self, save: Save) -> None:
        raw = CASES["humor"]()
        corpus = load(save(raw), task="classification")
        assert corpus.classes == ("class_0", "class_1")
        for name, split in corpus.splits.items():
            np.testing.assert_array_equal(split.targets, raw[name]["labels"][:, 0])

    def test_sarcasm_of_minus_one_and_one_is_two_classes(self, mult: Raw, save: Save) -> None:
        for split in mult.values():
            split["labels"] = np.where(np.arange(len(split["id"])) % 2, 1, -1)[:, None]
        corpus = load(save(mult), task="classification")
        assert corpus.classes == ("class_-1", "class_1")
        np.testing.assert_array_equal(corpus.splits["valid"].targets, [0, 1, 0, 1, 0, 1])

    def test_two_classes_are_no_scores_and_point_to_classification(self, save: Save) -> None:
        with pytest.raises(CorpusError, match=r"all labels are 0 or 1: two classes, .*; use task: classification"):
            load(save(CASES["humor"]()))


class TestEmotionsOfMOSEI:
    @pytest.mark.parametrize("name", ["emotions_6", "sentiment_and_emotions_7"])
    @pytest.mark.parametrize("target", EMOTIONS)
    def test_a_target_is_one_emotion_that_is_present_or_not(self, name: str, target: str, save: Save) -> None:
        raw = CASES[name]()
        corpus = load(save(raw, "mosei.pkl"), task="classification", target=target)
        assert (corpus.name, corpus.classes) == (f"mosei_{target}", (f"not_{target}", target))
        for split, values in corpus.splits.items():
            column = raw[split]["labels"][:, EMOTIONS.index(target) + (name == "sentiment_and_emotions_7")]
            np.testing.assert_array_equal(values.targets, column > 0)

    def test_labels_with_an_axis_of_one_are_the_same(self, save: Save) -> None:
        raw = CASES["sentiment_and_emotions_7"]()
        flat = load(save(raw), task="classification", target="fear")
        for split in raw.values():
            split["labels"] = split["labels"][:, None, :]
        assert load(save(raw), task="classification", target="fear").fingerprint == flat.fingerprint

    def test_sentiment_is_the_first_of_seven_columns(self, save: Save) -> None:
        raw = CASES["sentiment_and_emotions_7"]()
        corpus = load(save(raw), target="sentiment")
        assert (corpus.task, corpus.scale) == ("regression", "mosi")
        np.testing.assert_allclose(corpus.splits["test"].targets, raw["test"]["labels"][:, 0], rtol=1e-6)

    @pytest.mark.parametrize("task", ["regression", "classification"])
    def test_without_a_target_the_choices_are_named(self, task: str, save: Save) -> None:
        for name, choices in (("emotions_6", EMOTIONS), ("sentiment_and_emotions_7", ("sentiment", *EMOTIONS))):
            with pytest.raises(CorpusError, match=rf"{', '.join(choices)}") as caught:
                load(save(CASES[name]()), task=task)
            assert "\n" not in str(caught.value)

    def test_an_unknown_target_is_answered_with_the_choices(self, save: Save) -> None:
        with pytest.raises(CorpusError, match=r"no target 'sentment'; known are sentiment, happy, .*'sentiment'\?"):
            load(save(CASES["sentiment_and_emotions_7"]()), task="classification", target="sentment")
        with pytest.raises(CorpusError, match="no target 'sentiment'; known are happy, sad"):
            load(save(CASES["emotions_6"]()), task="classification", target="sentiment")

    @pytest.mark.parametrize("name", ["emotions_6", "sentiment_and_emotions_7"])
    def test_all_emotions_at_once_are_several_labels(self, name: str, save: Save) -> None:
        raw = CASES[name]()
        corpus = load(save(raw, "mosei.pkl"), task="multilabel")
        assert (corpus.name, corpus.task, corpus.classes, corpus.scale) == ("mosei", "multilabel", EMOTIONS, "")
        for split, values in corpus.splits.items():
            np.testing.assert_array_equal(values.targets, raw[split]["labels"][:, -6:] > 0)

    def test_the_emotions_of_iemocap_too_are_several_labels(self, iemocap: Raw, save: Save) -> None:
        iemocap["train"]["labels"][0] = [[0, 1]] * 4
        corpus = load(save(iemocap), task="multilabel")
        assert corpus.classes == ("neutral", "happy", "sad", "angry")
        np.testing.assert_array_equal(corpus.splits["train"].targets[:3], [[1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0]])

    def test_a_target_picks_one_of_several_labels_and_not_all(self, save: Save) -> None:
        with pytest.raises(CorpusError, match="target: happy picks one label, for task: classification; leave target"):
            load(save(CASES["emotions_6"]()), task="multilabel", target="happy")

    def test_one_number_is_not_several_labels(self, mmsa: Raw, mult: Raw, save: Save) -> None:
        with pytest.raises(CorpusError, match=r"task: multilabel needs several labels .* found train \(12, 1, 1\)"):
            load(save(mult), task="multilabel")
        with pytest.raises(CorpusError, match="task: multilabel is for emotion labels; this is an MMSA file"):
            load(save(mmsa), task="multilabel")
