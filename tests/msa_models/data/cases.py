"""Small corpora in the dialects that lie on disks, made in memory: `CASES["humor"]()` is what a file would hold.

Each stands for a kind of file that a reader can get wrong. Labels are sentiment in [-3, 3] unless a case says
otherwise, audio and vision are sequences whose real steps carry the label, a video has 4 clips. The same call always
gives the same values.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

Raw = dict[str, Any]
Lengths = Literal["absent", "true", "first_zero", "beyond_steps", "off_by_one"]

SIZES = {"train": 200, "valid": 60, "test": 60}
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
_VOCABULARY = ("this", "film", "was", "truly", "awful", "plain", "fine", "great", "um", "story", "cast", "music")
_CLIPS_PER_VIDEO = 4


class _Draws:
    """Random values of one corpus."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(14)

    def scores(self, count: int) -> np.ndarray:
        return self.generator.uniform(-3, 3, count).astype(np.float32)

    def sequences(self, scores: np.ndarray, steps: int, width: int) -> list[np.ndarray]:
        """Of each sample (t, width) float32, where 5 <= t < steps / 2: noise of variance 1 around half the label."""
        counts = self.generator.integers(5, steps // 2, len(scores)).tolist()
        noise = [self.generator.normal(size=(count, width)) for count in counts]
        return [(each + score / 2).astype(np.float32) for each, score in zip(noise, scores, strict=True)]

    def words(self, count: int) -> list[str]:
        return self.generator.choice(_VOCABULARY, count).tolist()


def padded(sequences: list[np.ndarray], steps: int, *, at_start: bool = False) -> np.ndarray:
    """(N, steps, d) from N sequences (t, d), with zeros behind each, or before it."""
    out = np.zeros((len(sequences), steps, sequences[0].shape[1]), np.float32)
    for row, values in zip(out, sequences, strict=True):
        row[steps - len(values) if at_start else 0 :][: len(values)] = values
    return out


def lengths_of(values: np.ndarray, sequences: list[np.ndarray], kind: Lengths) -> list[int] | None:
    """What a file could say of the lengths of (N, T, d) `values` that hold these sequences.

    "first_zero" is the first step of zeros, at least 1, as MMSA's getLengths.py finds it; "beyond_steps" counts ten
    frames a step, so that most are beyond T; "off_by_one" are true lengths less 1.
    """
    true = [len(each) for each in sequences]
    if kind == "first_zero":
        zero: np.ndarray = (values == 0).all(axis=-1)
        return [max(1, int(row.argmax())) if row.any() else len(row) for row in zero]
    return {
        "absent": None,
        "true": true,
        "beyond_steps": [10 * length for length in true],
        "off_by_one": [length - 1 for length in true],
    }[kind]


def ids(split: str, count: int) -> list[str]:
    """Such as train007$_$2."""
    return [f"{split}{index // _CLIPS_PER_VIDEO:03d}$_${index % _CLIPS_PER_VIDEO}" for index in range(count)]


def mmsa(*, at_start: bool = False, lengths: Lengths = "absent", features: bool = True, steps: int = 60) -> Raw:
    """The MMSA layout: raw_text, text (N, 16) unless without `features`, audio (N, T, 5), vision (N, T, 20), labels."""
    draws, raw = _Draws(), {}
    for split, count in SIZES.items():
        scores = draws.scores(count)
        raw[split] = {"id": ids(split, count), "regression_labels": scores}
        raw[split]["raw_text"] = [" ".join(draws.words(8)) for _ in range(count)]
        text = draws.generator.normal(size=(count, 16)).astype(np.float32)
        raw[split] |= {"text": text} if features else {}
        for modality, width in (("audio", 5), ("vision", 20)):
            sequences = draws.sequences(scores, steps, width)
            values = padded(sequences, steps, at_start=at_start)
            said = lengths_of(values, sequences, lengths)
            raw[split] |= {modality: values} | ({} if said is None else {f"{modality}_lengths": said})
    return raw


def mult(labels: Literal["sentiment", "humor", "emotions", "sentiment_and_emotions"]) -> Raw:
    """The MulT and MultiBench layout: sequences padded at the start and one array of `labels`.

    Labels are sentiment (N, 1, 1), humour 0 or 1 (N, 1), the strengths 0 to 3 of six emotions (N, 6), or sentiment and
    these (N, 7). Ids are strings such as train007[2].
    """
    draws, raw = _Draws(), {}
    for split, count in SIZES.items():
        scores = draws.scores(count).astype(np.float64)
        emotions = np.maximum(0, np.minimum(3, draws.generator.normal(size=(count, len(EMOTIONS)))))
        raw[split] = {
            modality: padded(draws.sequences(scores, 50, width), 50, at_start=True)
            for modality, width in (("text", 30), ("audio", 5), ("vision", 20))
        }
        raw[split]["labels"] = {
            "sentiment": scores[:, None, None],
            "humor": (scores[:, None] > 0).astype(np.int64),
            "emotions": emotions,
            "sentiment_and_emotions": np.column_stack([scores, emotions]),
        }[labels]
        raw[split]["id"] = np.array([name.replace("$_$", "[") + "]" for name in ids(split, count)])
    return raw


def tuples() -> Raw:
    """MAG-BERT, MISA and MMIM: lists of ((words, visual (t, 47), acoustic (t, 74)), label (1, 1), segment)."""
    draws, raw = _Draws(), {}
    for split, count in SIZES.items():
        names = [name.replace("$_$", "[") + "]" for name in ids(split, count)]
        raw["dev" if split == "valid" else split] = [
            (
                (draws.words(length), *(draws.generator.normal(size=(length, d)).astype(np.float32) for d in (47, 74))),
                np.array([[score]], np.float32),
                name,
            )
            for length, score, name in zip(
                draws.generator.integers(3, 15, count).tolist(), draws.scores(count).tolist(), names, strict=True
            )
        ]
    return raw


def ragged() -> Raw:
    """The MMSA layout with object arrays of unpadded sequences (t, d), where t is 3 to 11."""
    raw = mmsa()
    for split in raw.values():
        for modality in ("audio", "vision"):
            rows = np.empty(len(split[modality]), object)
            for index, values in enumerate(split[modality]):
                rows[index] = values[: 3 + index % 9]
            split[modality] = rows
    return raw


def classes_minus_one() -> Raw:
    """The MMSA layout with classification labels -1, 0 and 1."""
    raw = mmsa()
    for split in raw.values():
        split["classification_labels"] = np.sign(np.rint(split["regression_labels"]).astype(np.float64))
    return raw


def vision_all_zero() -> Raw:
    """No face was found in any video."""
    raw = mmsa()
    for split in raw.values():
        split["vision"] = np.zeros_like(split["vision"])
    return raw


def leak_in_train() -> Raw:
    """Audio (N, 5) is the label and a little noise in train, and noise alone in valid and test."""
    raw, draws = mmsa(), np.random.default_rng(15)
    for name, split in raw.items():
        scores = split["regression_labels"]
        noise = draws.normal(size=(len(scores), 5))
        split["audio"] = (scores[:, None] + 0.1 * noise if name == "train" else 1.7 * noise).astype(np.float32)
    return raw


def nearly_constant() -> Raw:
    """Text (N, 16) float64 whose column 3 has a deviation of 1e-32, but for one value of 1e-3 in test."""
    raw, draws = mmsa(), np.random.default_rng(16)
    for split in raw.values():
        split["text"] = split["text"].astype(np.float64)
        split["text"][:, 3] = draws.normal(0, 1e-32, len(split["text"]))
    raw["test"]["text"][0, 3] = 1e-3
    return raw


CASES: dict[str, Callable[[], Raw]] = {
    "start_padded_no_lengths": lambda: mmsa(at_start=True),
    "start_padded_true_lengths": lambda: mmsa(at_start=True, lengths="true"),
    "start_padded_getlengths": lambda: mmsa(at_start=True, lengths="first_zero"),
    "lengths_beyond_steps": lambda: mmsa(lengths="beyond_steps"),
    "raw_text_only": lambda: mmsa(features=False),
    "humor": lambda: mult("humor"),
    "emotions_6": lambda: mult("emotions"),
    "sentiment_and_emotions_7": lambda: mult("sentiment_and_emotions"),
    "tuples": tuples,
    "ragged": ragged,
    "classes_minus_one": classes_minus_one,
    "vision_all_zero": vision_all_zero,
    "leak_in_train": leak_in_train,
    "nearly_constant": nearly_constant,
}
