"""The synthetic corpus: what is planted can be found, and options touch only what they name."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from msa_models.data import Corpus, CorpusError, load
from msa_models.data.raw import video_of
from msa_models.data.synthetic import Options, generate


def ridge_r2(corpus: Corpus, *modalities: str) -> float:
    """R^2 on the test split of scikit-learn's ridge regression on features averaged over real steps."""
    features = {}
    for name, split in corpus.splits.items():
        columns = []
        for modality in modalities:
            values = split.inputs[modality].astype(np.float64)
            if modality in split.masks:
                mask = split.masks[modality][..., None]
                values = (values * mask).sum(axis=1) / mask.sum(axis=1)
            columns.append(values)
        features[name] = np.concatenate(columns, axis=1)
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 25)))
    model.fit(features["train"], corpus.splits["train"].targets)
    return float(model.score(features["test"], corpus.splits["test"].targets))


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@pytest.mark.parametrize("seed", range(5))
def test_the_planted_order_of_modalities_is_found_by_ridge_regression(seed: int, layout: Any) -> None:
    corpus = generate(Options(seed=seed, layout=layout, nuisance=True))
    text, audio, vision = (ridge_r2(corpus, modality) for modality in ("text", "audio", "vision"))
    assert text > audio + 0.2
    assert audio > vision + 0.05
    assert vision > 0.02
    assert ridge_r2(corpus, "text", "audio") > text + 0.01
    assert abs(ridge_r2(corpus, "nuisance")) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.2, 0.6, 0.95])
def test_the_square_of_the_strength_is_what_a_modality_can_explain(strength: float) -> None:
    corpus = generate(Options(num_train=3000, num_test=3000, audio_strength=strength))
    found = ridge_r2(corpus, "audio")
    assert 0.8 * strength**2 < found < strength**2


def test_padding_is_zero_and_lengths_vary_between_samples_and_modalities() -> None:
    corpus = generate(Options(steps=9))
    for split in corpus.splits.values():
        for modality, mask in split.masks.items():
            lengths = mask.sum(axis=1)
            assert set(lengths) == set(range(5, 10))
            np.testing.assert_array_equal(mask, np.arange(9) < lengths[:, None])
            assert np.all(split.inputs[modality][~mask] == 0)
            assert np.all(split.inputs[modality][mask].any(axis=-1))
        assert not np.array_equal(split.masks["text"], split.masks["audio"])


def test_utterances_have_no_steps_and_no_masks() -> None:
    corpus = generate(Options(layout="utterances", text_width=7))
    assert corpus.splits["valid"].inputs["text"].shape == (200, 7)
    assert corpus.splits["valid"].masks == {}


def test_types_are_those_of_a_corpus() -> None:
    corpus = generate(Options(nuisance=True))
    assert corpus.modalities == ("text", "audio", "vision", "nuisance")
    for split in corpus.splits.values():
        assert {array.dtype for array in split.inputs.values()} == {np.dtype(np.float32)}
        assert split.targets.dtype == np.float32
        assert np.abs(split.targets).max() <= 3
        assert len(set(split.ids)) == len(split)


def test_no_video_is_in_two_splits_and_most_have_several_clips() -> None:
    videos = [{video_of(name) for name in split.ids} for split in generate().splits.values()]
    assert len(set.union(*videos)) == sum(map(len, videos))
    assert len(videos[0]) == 120


SAME: dict[str, tuple[dict[str, Any], set[str]]] = {
    "text_strength": ({"text_strength": 0.1}, {"text"}),
    "text_width": ({"text_width": 5}, {"text"}),
    "vision_width": ({"vision_width": 5}, {"vision"}),
    "nuisance": ({"nuisance": True}, set()),
    "task": ({"task": "classification"}, set()),
    "task multilabel": ({"task": "multilabel"}, set()),
    "seed": ({"seed": 1}, {"text", "audio", "vision"}),
}


@pytest.mark.parametrize("option", SAME)
def test_an_option_changes_only_the_modalities_that_it_is_about(option: str) -> None:
    change, expected = SAME[option]
    before, after = generate(), generate(dataclasses.replace(Options(), **change))
    for name, split in before.splits.items():
        other = after.splits[name]
        changed = {
            modality for modality, values in split.inputs.items() if not np.array_equal(values, other.inputs[modality])
        }
        assert changed == expected
        if not option.startswith("task"):
            assert np.array_equal(split.targets, other.targets) == (option != "seed")


def test_the_size_of_a_split_leaves_the_others_alone() -> None:
    before, after = generate(), generate(Options(num_valid=50))
    for name in ("train", "test"):
        np.testing.assert_array_equal(before.splits[name].inputs["text"], after.splits[name].inputs["text"])
        np.testing.assert_array_equal(before.splits[name].targets, after.splits[name].targets)


def test_splits_share_nothing_but_how_a_modality_writes_its_evidence() -> None:
    corpus = generate(Options(num_train=200, nuisance=True))
    train, valid, test = (corpus.splits[name] for name in ("train", "valid", "test"))
    for one, other in ((train, valid), (train, test), (valid, test)):
        assert abs(np.corrcoef(one.targets, other.targets)[0, 1]) < 0.3
        assert not np.array_equal(one.masks["text"], other.masks["text"])
        for modality, values in one.inputs.items():
            assert np.mean(values[:, 0] == other.inputs[modality][:, 0]) < 0.001


def test_a_seed_gives_the_same_corpus_each_time_and_another_one_another() -> None:
    assert generate().fingerprint == generate(Options()).fingerprint
    assert generate().fingerprint != generate(Options(seed=1)).fingerprint


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classes_are_equally_likely_and_ordered_by_sentiment(classes: int) -> None:
    options = Options(num_train=3000, classes=classes)
    indices = generate(dataclasses.replace(options, task="classification"))
    scores = generate(options).splits["train"].targets
    assert len(indices.classes) == classes
    assert indices.scale == ""
    targets = indices.splits["train"].targets
    assert targets.dtype == np.int64
    np.testing.assert_allclose(np.bincount(targets) / 3000, 1 / classes, atol=0.03)
    assert np.all(np.diff([scores[targets == k].mean() for k in range(classes)]) > 0)


def test_several_labels_are_as_frequent_as_planted_and_a_sample_may_have_none_or_some() -> None:
    options = Options(num_train=3000, classes=6)
    corpus = generate(dataclasses.replace(options, task="multilabel"))
    targets, scores = corpus.splits["train"].targets, generate(options).splits["train"].targets
    assert corpus.classes == ("happy", "sad", "anger", "surprise", "disgust", "fear")
    assert (corpus.scale, corpus.num_outputs, targets.dtype, targets.shape) == ("", 6, np.float32, (3000, 6))
    np.testing.assert_allclose(targets.mean(axis=0), [0.4, 0.4, 0.3, 0.3, 0.2, 0.1], atol=0.03)
    assert set(targets.sum(axis=1)) == {0, 1, 2, 3, 4}
    felt = [scores[targets[:, k] == 1].mean() for k in range(6)]
    assert [value > 0 for value in felt] == [True, False, False, True, False, False]


def test_there_are_six_emotions_at_most() -> None:
    with pytest.raises(CorpusError, match="classes is 7; expected at most 6"):
        Options(task="multilabel", classes=7)


def test_three_classes_have_the_names_of_sentiments() -> None:
    assert generate(Options(task="classification")).classes == ("negative", "neutral", "positive")


def test_the_sims_scale_is_a_third_as_wide() -> None:
    corpus = load("synthetic", scale="sims")
    assert corpus.scale == "sims"
    assert np.abs(corpus.splits["train"].targets).max() == 1


@pytest.mark.parametrize("sizes", [1, 2, 9])
def test_very_small_splits_work(sizes: int) -> None:
    corpus = generate(Options(num_train=sizes, num_valid=sizes, num_test=sizes, steps=1))
    assert {len(split) for split in corpus.splits.values()} == {sizes}
    assert np.isfinite(corpus.splits["train"].inputs["text"]).all()


def test_all_faulty_options_are_reported_at_once() -> None:
    with pytest.raises(CorpusError) as caught:
        Options(
            seed=-1,
            text_strength=1.5,
            audio_strength=float("nan"),
            steps=2.5,  # pyright: ignore[reportArgumentType]
            nuisance=1,  # pyright: ignore[reportArgumentType]
            num_test=True,
            layout="cubes",  # pyright: ignore[reportArgumentType]
        )
    for fault in (
        "seed is -1; expected a whole number, at least 0",
        "text_strength is 1.5; expected a number, at least 0, at most 1",
        "audio_strength is nan",
        "steps is 2.5; expected a whole number, at least 1",
        "nuisance is 1; expected true or false",
        "num_test is True; expected a whole number",
        "layout is 'cubes'; expected sequences or utterances",
    ):
        assert fault in str(caught.value)
    assert Options(text_strength=1).text_strength == 1
