"""What a corpus has to warn of, in one line each with counts and names, and that an ordinary one has nothing."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msa_models.data import Corpus, load, padding, probes
from msa_models.data.describe import warnings
from msa_models.data.synthetic import Options, generate
from tests.msa_models.data import cases

Raw = dict[str, dict[str, Any]]
Save = Callable[..., str]


def utterances() -> Corpus:
    """An ordinary corpus."""
    return generate(Options(layout="utterances", num_train=60, num_valid=20, num_test=20))


def test_an_ordinary_file_has_no_warnings(mmsa: Raw, save: Save) -> None:
    assert load(save(mmsa)).warnings == ()
    assert load(save(mmsa), task="classification").warnings == ()
    assert load(save(cases.mmsa(lengths="true"))).warnings == ()


class TestIds:
    def test_an_id_more_than_once_is_counted(self, mmsa: Raw, save: Save) -> None:
        mmsa["train"]["id"][3] = mmsa["train"]["id"][1]
        assert load(save(mmsa)).warnings == ("1 id occurs more than once in train, such as 'train0$_$1'",)

    def test_an_id_in_two_splits_is_counted_and_so_is_its_video(self, mmsa: Raw, save: Save) -> None:
        mmsa["test"]["id"][:2] = mmsa["train"]["id"][:2]
        assert load(save(mmsa)).warnings == (
            "2 ids occur in more than one split, such as 'train0$_$0' (train, test): splits share samples",
            "1 video occurs in more than one split, such as 'train0' (train, test): splits are not independent",
        )

    def test_other_clips_of_a_training_video_are_counted(self, mmsa: Raw, save: Save) -> None:
        mmsa["valid"]["id"] = np.array([f"train{index}$_$9" for index in range(6)], dtype=object)
        (warning,) = load(save(mmsa)).warnings
        assert warning.startswith("6 videos occur in more than one split, such as 'train0' (train, valid)")

    def test_ids_that_name_no_video_are_counted_and_not_compared_as_videos(self, mmsa: Raw, save: Save) -> None:
        mmsa["train"]["id"][:2] = "clip 1", "clip 2"
        assert load(save(mmsa)).warnings == (
            "2 of 26 ids name no video, such as 'clip 1' (expected video$_$clip): samples of one video cannot be kept "
            "together",
        )

    def test_a_file_without_ids_names_no_video(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            del split["id"]
        (warning,) = load(save(mmsa)).warnings
        assert warning.startswith("26 of 26 ids name no video, such as 'train_000000' ")


class TestLabels:
    def test_one_label_for_all_is_nothing_to_learn(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["regression_labels"] = np.full(len(split["regression_labels"]), -1, np.float32)
        assert "every label is -1: there is nothing to learn" in load(save(mmsa)).warnings

    @pytest.mark.parametrize("labels", [(0, 1), (-1, 0, 1), (0, 1, 2, 3), (1, 2, 3, 4, 5)])
    def test_few_whole_numbers_look_like_classes(self, labels: tuple[int, ...], mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["regression_labels"] = np.resize(labels, len(split["regression_labels"])).astype(np.float32)
        expected = f"labels are just {', '.join(map(str, labels))}, as of classes; if they are classes, "
        found = [line for line in load(save(mmsa)).warnings if not line.startswith("labels reach")]
        assert found == [expected + "pass task: classification"]

    @pytest.mark.parametrize("labels", [(-3, -2, -1, 0, 1, 2, 3), (0, 0.5, 1.2), (-2.5, 0, 2.5)])
    def test_other_labels_do_not(self, labels: tuple[float, ...], mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["regression_labels"] = np.resize(labels, len(split["regression_labels"])).astype(np.float32)
        assert load(save(mmsa)).warnings == ()

    def test_labels_between_minus_one_and_one_are_on_the_scale_of_sims(self, mmsa: Raw, save: Save) -> None:
        for split in mmsa.values():
            split["regression_labels"] = split["regression_labels"] / 4
        hint = "all labels lie in -1 to 1; if this is a CH-SIMS corpus, pass scale: sims"
        assert load(save(mmsa)).warnings == (hint,)
        assert load(save(mmsa), scale="sims").warnings == ()
        mmsa["test"]["regression_labels"][0] = 3.5
        for scale, limit in (("mosi", 3), ("sims", 1)):
            line = f"labels reach 3.5, beyond the {scale} scale of {limit}; binned accuracies clip them"
            assert load(save(mmsa), scale=scale).warnings == (line,)


class TestDuplicates:
    def repeated(self, raw: Raw, name: str, to: int, source: str, at: int) -> None:
        for key in ("text", "audio", "vision", "regression_labels"):
            raw[name][key][to] = raw[source][key][at]
        raw[name]["audio_lengths"][to] = raw[source]["audio_lengths"][at]

    def test_samples_with_the_features_and_label_of_another_are_counted(self, mmsa: Raw, save: Save) -> None:
        self.repeated(mmsa, "train", 5, "train", 2)
        assert load(save(mmsa)).warnings == (
            "1 sample repeats the features and label of another, such as 'train1$_$0' of train and 'train2$_$1' of "
            "train",
        )
        self.repeated(mmsa, "test", 4, "train", 2)
        assert load(save(mmsa)).warnings == (
            "2 samples repeat the features and label of another, such as 'train1$_$0' of train and 'train2$_$1' of "
            "train; 1 of them in another split",
        )

    @pytest.mark.parametrize("key", ["text", "audio", "vision"])
    def test_samples_that_differ_in_one_value_are_not(self, key: str, mmsa: Raw, save: Save) -> None:
        self.repeated(mmsa, "train", 5, "train", 2)
        mmsa["train"][key][5].flat[-1] += 1  # for sequences this is behind the first step
        lines = load(save(mmsa)).warnings
        assert not [line for line in lines if "repeat" in line]

    def test_samples_that_differ_in_their_label_are_not(self, mmsa: Raw, save: Save) -> None:
        self.repeated(mmsa, "train", 5, "train", 2)
        mmsa["train"]["regression_labels"][5] -= 0.5
        assert load(save(mmsa)).warnings == ()


class TestFeatures:
    def test_a_modality_of_zeros_says_nothing(self, save: Save) -> None:
        assert load(save(cases.vision_all_zero())).warnings == (
            "vision is 0 everywhere in train, valid, test: it says nothing there",
        )

    def test_a_constant_modality_says_nothing_in_the_splits_where_it_is(self) -> None:
        corpus = utterances()
        corpus.splits["valid"].inputs["audio"][:] = 4
        assert warnings(corpus)[0] == "audio is constant in valid: it says nothing there"
        corpus.splits["train"].inputs["audio"][:] = 0
        assert warnings(corpus)[:2] == (
            "audio is constant in train, valid: it says nothing there",
            "audio varies in valid or test but not in train in 16 of 16 columns (0, 1, 2, 3, 4, …): set to 0 "
            "everywhere",
        )

    def test_a_single_utterance_is_not_called_constant(self) -> None:
        assert warnings(generate(Options(layout="utterances", num_train=60, num_valid=1, num_test=1))) == ()

    def test_a_nearly_constant_column_is_named_and_standardised_to_zero(self, save: Save) -> None:
        corpus = load(save(cases.nearly_constant()))
        assert corpus.warnings == ("text is nearly constant in train in 1 of 16 columns (3): set to 0 everywhere",)
        for split in corpus.standardised().splits.values():
            assert np.all(split.inputs["text"][:, 3] == 0)

    @pytest.mark.parametrize(
        ("around", "deviation", "constant"),
        [
            (0, 1e-32, True),
            (0, 1e-16, True),
            (0, 1e-9, False),
            (1e4, 1e-3, True),
            (1e4, 1, False),
            (1e-9, 1e-12, False),
        ],
    )
    def test_the_floor_is_absolute_and_relative(self, around: float, deviation: float, constant: bool) -> None:
        corpus = utterances()
        for split in corpus.splits.values():
            noise = np.random.default_rng(2).normal(size=len(split))
            split.inputs["text"][:, 7] = np.clip(noise, -2, 2) * deviation + around
        line = "text is nearly constant in train in 1 of 32 columns (7): set to 0 everywhere"
        assert list(warnings(corpus)) == ([line] if constant else [])

    def test_many_columns_are_counted_and_some_are_named(self) -> None:
        corpus = utterances()
        for split in corpus.splits.values():
            split.inputs["text"][:, 3:12] = np.float32(1e-20) * np.arange(len(split))[:, None]
        (warning,) = warnings(corpus)
        assert "in 9 of 32 columns (3, 4, 5, 6, 7, …):" in warning
        for split in corpus.splits.values():
            split.inputs["text"][:, 8:12] = split.inputs["text"][:, 12:16]
        (warning,) = warnings(corpus)
        assert "in 5 of 32 columns (3, 4, 5, 6, 7):" in warning

    def test_a_column_that_is_constant_everywhere_is_no_surprise_but_one_of_train_alone_is(self) -> None:
        corpus = utterances()
        for split in corpus.splits.values():
            split.inputs["text"][:, 3] = 5
        assert warnings(corpus) == ()
        corpus.splits["test"].inputs["text"][0, 3] = 6
        (warning,) = warnings(corpus)
        assert warning == "text varies in valid or test but not in train in 1 of 32 columns (3): set to 0 everywhere"

    def test_values_far_beyond_those_of_train_are_clipped_and_counted(self) -> None:
        corpus = utterances()
        usual = corpus.standardised()
        deviation = corpus.splits["train"].inputs["text"][:, 3].std()
        corpus.splits["test"].inputs["text"][4, 3] += 2000 * deviation
        corpus.splits["test"].inputs["text"][[5, 6], 8] = 1e30, -1e30
        corpus.splits["valid"].inputs["text"][7, 8] = -1e30
        assert warnings(corpus)[0] == (
            "text has values beyond 1000 deviations of train in 2 of 32 columns (3, 8): 1 in valid, 3 in test, clipped "
            "to that"
        )
        found = corpus.standardised()
        assert found.splits["test"].inputs["text"][4, 3] == found.splits["test"].inputs["text"][5, 8] == 1000
        assert found.splits["test"].inputs["text"][6, 8] == found.splits["valid"].inputs["text"][7, 8] == -1000
        found.splits["test"].inputs["text"][[4, 5, 6], [3, 8, 8]] = usual.splits["test"].inputs["text"][
            [4, 5, 6], [3, 8, 8]
        ]
        found.splits["valid"].inputs["text"][7, 8] = usual.splits["valid"].inputs["text"][7, 8]
        assert found.fingerprint == usual.fingerprint

    def test_what_lies_in_padding_is_not_counted(self) -> None:
        corpus = generate(Options(num_train=60, num_valid=20, num_test=20))
        split = corpus.splits["test"]
        split.inputs["audio"][~split.masks["audio"]] = 1e30
        assert warnings(corpus) == ()
        split.inputs["audio"][3, 0, 2] = 1e30
        assert warnings(corpus)[0].endswith("in 1 of 16 columns (2): 1 in test, clipped to that")


def test_a_modality_that_knows_the_labels_of_train_alone_is_named(save: Save) -> None:
    (warning,) = load(save(cases.leak_in_train())).warnings
    assert warning.startswith(f"audio: {probes.LEAK} (ridge probe: Corr 1.000 on train, ")


def test_every_case_can_be_told_of_in_lines_of_printable_text(save: Save) -> None:
    raw = copy.deepcopy(cases.mmsa())
    raw["train"]["id"][0] = raw["train"]["id"][1] = "a\nb$_$1"
    for line in load(save(raw)).warnings:
        assert line.isprintable()


def test_the_documentation_says_what_each_finding_means() -> None:
    table = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    told = [re.escape(what) for what, _ in padding.FINDINGS.values()] + [probes.FLAG, probes.LEAK]
    assert [what for what in told if not re.search(rf"\| \*{what}\*", table)] == []
