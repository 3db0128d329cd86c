"""The same sequences, however a file pads them and whatever it says of their lengths, are the same corpus."""

from collections.abc import Callable, Iterator
from itertools import cycle, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_models.data import Corpus, layouts, load
from msa_models.data.assemble import assemble
from msa_models.data.containers import SAMPLES
from msa_models.data.padding import Notes, place
from msa_models.data.probes import probes
from msa_models.data.raw import Request
from tests.msa_models.data import cases

Save = Callable[..., str]
Sequences = dict[str, dict[str, list[np.ndarray]]]  # split -> modality -> N sequences (t, d)

STEPS = 6
WIDTHS = {"text": 3, "audio": 1, "vision": 2}
MOVED, BY_VALUES = "moved to begin at step 0", "read by the steps that are not zero"
LENGTHS: tuple[cases.Lengths, ...] = ("absent", "true", "first_zero", "beyond_steps", "off_by_one")


def dense(values: np.ndarray) -> Any:
    return values


def nested(values: np.ndarray) -> Any:
    return values.tolist()


def objects(values: np.ndarray) -> Any:
    out = np.empty(len(values), object)
    out[:] = list(values)
    return out


def file(sequences: Sequences, labels: str, container: Callable[[np.ndarray], Any], at_start: bool, said: Any) -> Any:
    """What a file of the MMSA layout (regression_labels) or the MulT layout (labels) holds of these sequences."""
    raw: dict[str, dict[str, Any]] = {}
    for split, modalities in sequences.items():
        count = len(modalities["text"])
        scores = np.linspace(-2.5, 2.5, count, dtype=np.float32)
        raw[split] = {"id": cases.ids(split, count), labels: scores if labels != "labels" else scores[:, None, None]}
        for modality, each in modalities.items():
            values = cases.padded(each, STEPS, at_start=at_start)
            raw[split][modality] = container(values)
            if (lengths := cases.lengths_of(values, each, said)) is not None:
                raw[split][f"{modality}_lengths"] = lengths
    return raw


def unpadded(sequences: Sequences) -> Iterator[Any]:
    """The same with arrays (t, d) of each sample: in the MMSA layout, the MulT layout and as tuples."""
    for labels in ("regression_labels", "labels"):
        raw = file(sequences, labels, dense, False, "absent")
        for split, modalities in sequences.items():
            raw[split] |= modalities
        yield raw
    tuples: dict[str, dict[str, Any]] = {}
    for split, each in raw.items():
        members = zip(each["text"], each["vision"], each["audio"], strict=True)
        tuples[split] = {SAMPLES: list(zip(members, each["labels"], each["id"], strict=True))}
    yield tuples


def read(raw: Any) -> Corpus:
    return assemble("x", layouts.find(raw).read(raw, Request()))


@st.composite
def sequences(draw: st.DrawFn) -> Sequences:
    """Of 2 to 4 samples a split, the first shorter than the file's steps, the last as long; zero steps within them."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    found: Sequences = {}
    for split in cases.SIZES:
        counts = [draw(st.integers(1, STEPS - 1)), *draw(st.lists(st.integers(1, STEPS), max_size=2)), STEPS]
        found[split] = {}
        for modality, width in WIDTHS.items():
            found[split][modality] = [generator.normal(size=(count, width)).astype(np.float32) for count in counts]
            for values in found[split][modality]:
                values[1:-1][generator.random(max(0, len(values) - 2)) < draw(st.sampled_from([0, 0.5]))] = 0
    return found


def expected_lines(sequences: Sequences, at_start: bool, said: cases.Lengths) -> list[str]:
    found: dict[str, dict[str, list[str]]] = {"moved": {}, "wrong": {}}
    for modality in WIDTHS:
        counts: dict[str, list[str]] = {"moved": [], "wrong": []}
        for split, modalities in sequences.items():
            true = [len(values) for values in modalities[modality]]
            values = cases.padded(modalities[modality], STEPS, at_start=at_start)
            told = cases.lengths_of(values, modalities[modality], said) or true
            misfit = sum(max(1, says) != length for says, length in zip(told, true, strict=True))
            short = sum(length < STEPS for length in true) * at_start
            counts["moved"] += [f"{short} of {len(true)} in {split}"] if short else []
            counts["wrong"] += [f"{misfit} of {len(true)} in {split}"] if misfit else []
        for what, each in counts.items():
            if each:
                found[what].setdefault(", ".join(each), []).append(modality)
    return [
        *(f"{', '.join(who)}: samples padded at the start: {each}; {MOVED}" for each, who in found["moved"].items()),
        *(f"{', '.join(who)}: lengths that do not fit: {each}; {BY_VALUES}" for each, who in found["wrong"].items()),
    ]


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(sequences())
def test_the_same_sequences_give_bitwise_the_same_corpus_and_say_what_was_found(sequences: Sequences) -> None:
    first = read(file(sequences, "regression_labels", dense, False, "absent"))
    assert first.warnings == ()
    for split, modalities in sequences.items():
        for modality, each in modalities.items():
            np.testing.assert_array_equal(first.splits[split].masks[modality].sum(axis=1), [len(row) for row in each])
            np.testing.assert_array_equal(first.splits[split].inputs[modality], cases.padded(each, STEPS))
    standardised = first.standardised().fingerprint
    for (at_start, said), container in zip(product([False, True], LENGTHS), cycle([dense, nested, objects])):
        corpus = read(file(sequences, "regression_labels", container, at_start, said))
        assert corpus.fingerprint == first.fingerprint
        assert corpus.standardised().fingerprint == standardised
        assert list(corpus.warnings) == expected_lines(sequences, at_start, said)
    for at_start in (False, True):
        corpus = read(file(sequences, "labels", dense, at_start, "absent"))
        assert corpus.fingerprint == first.fingerprint
        assert list(corpus.warnings) == expected_lines(sequences, at_start, "absent")
    for raw in unpadded(sequences):
        corpus = read(raw)
        assert corpus.fingerprint == first.fingerprint
        assert corpus.warnings == ()


def rows(*patterns: str) -> np.ndarray:
    """(N, T, 1): 0 where a pattern has a dot, else how many steps came before plus 1."""
    return np.array([[[0.0 if c == "." else 1.0 + i] for i, c in enumerate(p)] for p in patterns], np.float32)


def placed(values: np.ndarray, lengths: list[int] | None = None) -> tuple[list[list[int]], dict[str, list[int]]]:
    """The real steps of each sample, and which samples are flagged."""
    mask, found = place(values, None if lengths is None else np.array(lengths))
    kept = [row[real, 0].astype(int).tolist() for row, real in zip(values, mask, strict=True)]
    assert all(real.tolist() == sorted(real, reverse=True) for real in mask)  # they begin at step 0
    return kept, {what: np.flatnonzero(flags).tolist() for what, flags in found.items() if flags.any()}


class TestWithoutLengths:
    def test_zero_steps_within_a_sequence_are_real(self) -> None:
        assert placed(rows("x.x..", "xx...")) == ([[1, 0, 3], [1, 2]], {})

    def test_zero_steps_before_a_sequence_that_is_padded_behind_are_real_and_stay(self) -> None:
        assert placed(rows(".xx..", "xx...")) == ([[0, 2, 3], [1, 2]], {})

    def test_zero_steps_behind_a_sequence_that_is_padded_at_the_start_are_real(self) -> None:
        assert placed(rows("..x.x", "..xx.", "...xx")) == ([[3, 0, 5], [3, 4, 0], [4, 5]], {"start": [0, 1, 2]})

    def test_a_sample_padded_otherwise_than_most_is_ambiguous(self) -> None:
        assert placed(rows("xx...", "x....", "..xxx")) == ([[1, 2], [1], [0, 0, 3, 4, 5]], {"other end": [2]})
        behind = [[5], [4, 5], [1, 2, 0, 0, 0]]
        assert placed(rows("....x", "...xx", "xx...")) == (behind, {"start": [0, 1], "other end": [2]})

    def test_as_many_at_either_end_are_read_from_the_first_step(self) -> None:
        assert placed(rows("xx...", "...xx")) == ([[1, 2], [0, 0, 0, 4, 5]], {"other end": [1]})

    def test_a_sample_without_any_value_gets_its_first_step(self) -> None:
        assert placed(rows(".....", "...xx")) == ([[0], [4, 5]], {"start": [1]})


class TestWithLengths:
    def test_a_length_of_just_the_span_is_right_wherever_it_lies(self) -> None:
        assert placed(rows("xx...", "x....", "..xxx", "..xx."), [2, 1, 3, 2]) == (
            [[1, 2], [1], [3, 4, 5], [3, 4]],
            {"start": [2, 3]},
        )

    @pytest.mark.parametrize(
        ("values", "lengths", "kept", "flags"),
        [
            (rows("xx...", "x...."), [4, 1], [[1, 2, 0, 0], [1]], {"trailing": [0]}),
            (rows("xx...", "x...."), [5, 1], [[1, 2, 0, 0, 0], [1]], {"trailing": [0]}),
            (rows(".....", "...xx"), [3, 2], [[0, 0, 0], [4, 5]], {"start": [1], "trailing": [0]}),
            (rows("...xx", "....x"), [4, 1], [[0, 0, 4, 5], [5]], {"start": [0, 1], "trailing": [0]}),
        ],
    )
    def test_zero_steps_at_the_padded_end_that_a_length_counts_are_real_and_ambiguous(
        self, values: np.ndarray, lengths: list[int], kept: list[list[int]], flags: dict[str, list[int]]
    ) -> None:
        assert placed(values, lengths) == (kept, flags)

    def test_a_length_is_right_that_counts_zero_steps_at_the_end_without_padding(self) -> None:
        assert placed(rows(".xx..", "xx..."), [3, 2]) == ([[0, 2, 3], [1, 2]], {})
        assert placed(rows("..xx.", "...xx"), [3, 2]) == ([[3, 4, 0], [4, 5]], {"start": [0, 1]})

    def test_longer_lengths_are_not_believed_where_one_is_beyond_the_steps_in_spite_of_padding(self) -> None:
        assert placed(rows("xx...", "x...."), [9, 4]) == ([[1, 2], [1]], {"misfit": [0, 1]})
        assert placed(rows(".....", "x...."), [9, 4]) == ([[0], [1, 0, 0, 0]], {"misfit": [0], "trailing": [1]})
        assert placed(rows("xxxxx", "x...."), [9, 4]) == (
            [[1, 2, 3, 4, 5], [1, 0, 0, 0]],
            {"misfit": [0], "trailing": [1]},
        )

    def test_values_beyond_a_length_are_padding_only_where_nothing_is_padded_with_zeros(self) -> None:
        assert placed(rows("xxxxx", "xxxxx"), [3, 5]) == ([[1, 2, 3], [1, 2, 3, 4, 5]], {"beyond": [0]})
        assert placed(rows("xxx.x", "xxxxx"), [3, 5]) == ([[1, 2, 3, 0, 5], [1, 2, 3, 4, 5]], {"misfit": [0]})
        assert placed(rows("xxxxx", "xx..."), [3, 2]) == ([[1, 2, 3, 4, 5], [1, 2]], {"misfit": [0]})

    def test_a_sample_padded_otherwise_than_most_is_ambiguous_unless_its_length_fits(self) -> None:
        values = rows("xx...", "x....", "..xxx", "..xxx")
        kept = [[1, 2], [1], [0, 0, 3, 4, 5], [0, 0, 3, 4, 5]]
        assert placed(values, [2, 1, 5, 4]) == (kept, {"misfit": [3], "other end": [3]})

    @pytest.mark.parametrize(("length", "kept"), [(0, [0]), (1, [0]), (3, [0, 0, 0]), (9, [0])])
    def test_a_sample_without_any_value_has_the_steps_that_its_length_says(self, length: int, kept: list[int]) -> None:
        assert placed(rows(".....", "xx..."), [length, 2])[0] == [kept, [1, 2]]
        assert placed(rows(".....", "...xx"), [length, 2])[0] == [kept, [4, 5]]


def test_what_was_found_is_a_line_for_each_finding_with_counts_by_split() -> None:
    notes, none, one = Notes(), np.array([False]), np.array([True])
    found = {"train": {"start": np.array([True, True, False]), "misfit": none}, "test": {"start": one, "misfit": one}}
    for modality in ("audio", "vision"):
        notes.add(modality, found)
    notes.add("text", {"train": {"start": none, "beyond": one}})
    assert notes.lines == [
        f"audio, vision: samples padded at the start: 2 of 3 in train, 1 of 1 in test; {MOVED}",
        f"audio, vision: lengths that do not fit: 1 of 1 in test; {BY_VALUES}",
        "text: values beyond the lengths, and no padding with zeros: 1 of 1 in train; not read",
    ]


def test_values_are_not_copied_where_nothing_has_to_be_moved() -> None:
    values = rows("xx.x", "x...")
    before = values.copy()
    place(values)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("case", [name for name in cases.CASES if name.startswith("start_padded") or "beyond" in name])
def test_every_way_to_pad_and_to_say_lengths_leaves_what_audio_and_vision_know(case: str, save: Save) -> None:
    corpus, plain = load(save(cases.CASES[case]())), load(save(cases.mmsa(), "plain.pkl"))
    assert corpus.fingerprint == plain.fingerprint
    scores = {row["modalities"]: row["valid/corr"] for row in probes(corpus)}
    assert min(scores["audio"], scores["vision"]) > 0.9
    counts = "200 of 200 in train, 60 of 60 in valid, 60 of 60 in test"
    moved = f"audio, vision: samples padded at the start: {counts}; {MOVED}"
    wrong = f"audio, vision: lengths that do not fit: {counts}; {BY_VALUES}"
    assert (
        corpus.warnings
        == {
            "start_padded_no_lengths": (moved,),
            "start_padded_true_lengths": (moved,),
            "start_padded_getlengths": (moved, wrong),
            "lengths_beyond_steps": (wrong,),
        }[case]
    )
