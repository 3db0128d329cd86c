"""Where the real steps of padded sequences lie, and sequences moved so that they begin at step 0, with padding behind.

Files pad at either end (MulT and MMSA-FET's `padding_location` at the start) and say lengths that are true, are of
before a truncation, or are the first step of zeros (MMSA's getLengths.py), so that no length is believed against the
values. What is known of a sample is its *span*, the run of steps from the first to the last that is not zero; zero
steps within it are real (a word without a face). Then

1. most of the samples with zeros at just one end say at which end a split is padded (behind, where as many say either);
2. without a length the real steps go from the end that is not padded to the last that is not zero;
3. a length of just the span is the span, wherever it lies; a longer one of at most T counts zero steps as real, on the
   side of the padding; one that is shorter, or beyond T, does not fit and is ignored, and so are all longer ones of a
   split where one is beyond T in spite of padding;
4. only where a split has no padding with zeros at all, values beyond a shorter length, none of them zero, are padding.

So the same sequence gives the same values and mask however it is padded and whatever is said of its length. The
exceptions are what no file tells. `place` flags them wherever they can be seen:

- zero steps at the padded end, which only a right length counts, and a wrong one counts wrongly (rule 3);
- zeros at the other end than most samples of the split have them, in a sample without a length that fits: real zero
  steps, or padding at the other end (rule 2 takes them for real);
- values beyond a length where no sample is padded with zeros: other padding, or a length that is too short (rule 4).

Zero steps at the padded end of a file without lengths cannot be seen; they are taken for padding. T stays that of the
file: trimming would copy arrays of gigabytes to save little.

N samples, T steps, d features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from msa_models.data.mapped import FORGET_EVERY, chunks, forget

FINDINGS = {
    "start": ("samples padded at the start", "moved to begin at step 0"),
    "misfit": ("lengths that do not fit", "read by the steps that are not zero"),
    "trailing": ("lengths that count zero steps at the padded end", "taken for real steps"),
    "other end": ("zeros at the other end than most samples have them", "taken for real steps"),
    "beyond": ("values beyond the lengths, and no padding with zeros", "not read"),
}


@dataclass(kw_only=True)
class Notes:
    """What was found in sequences: finding -> counts by split, as text -> the modalities that have them."""

    found: dict[str, dict[str, list[str]]] = field(default_factory=lambda: {what: {} for what in FINDINGS})

    def add(self, modality: str, flags: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """The flags (N,) of each finding, by split."""
        for what, where in self.found.items():
            flagged = {split: each[what] for split, each in flags.items() if what in each and each[what].any()}
            if flagged:
                counts = ", ".join(f"{each.sum()} of {len(each)} in {split}" for split, each in flagged.items())
                where.setdefault(counts, []).append(modality)

    @property
    def lines(self) -> list[str]:
        """One for each finding, such as "audio: lengths that do not fit: 1 of 9 in train; …"."""
        return [
            f"{', '.join(modalities)}: {FINDINGS[what][0]}: {counts}; {FINDINGS[what][1]}"
            for what, where in self.found.items()
            for counts, modalities in where.items()
        ]


def place(values: np.ndarray, lengths: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The mask (N, T) of real steps, which begin at 0, and flags (N,) by finding.

    `values` (N, T, d) are moved in place; `lengths` (N,) is what the file says. A sample of nothing but zeros gets its
    first step where no length says more, so that every mean over steps exists.
    """
    start, stop, found = spans(values, lengths)
    return move(values, start, stop), found


def spans(
    values: np.ndarray, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(N,) start and stop of the real steps of each sample, and flags (N,) by finding."""
    nonzero = np.empty(values.shape[:2], bool)
    for rows in chunks(values):
        nonzero[rows] = values[rows].any(axis=-1)
    return _windows(nonzero, lengths)


def move(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Let each span begin at step 0, in place; the mask (N, T)."""
    for index in np.flatnonzero(start).tolist():
        row, count = values[index], stop[index] - start[index]
        row[:count] = row[start[index] : stop[index]]
        row[count:] = 0
        if index % FORGET_EVERY == 0:
            forget(values)
    return np.arange(values.shape[1]) < (stop - start)[:, None]


def _windows(nonzero: np.ndarray, lengths: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(N,) start and stop of the real steps of each sample, by the rules above, and flags (N,) by finding."""
    steps, some = nonzero.shape[1], nonzero.any(axis=1)
    first = np.where(some, nonzero.argmax(axis=1), 0)
    last = np.where(some, steps - nonzero[:, ::-1].argmax(axis=1), 1)  # the step after the span
    before, behind = (first > 0) & (last == steps), some & (first == 0) & (last < steps)
    at_start = before.sum() > behind.sum()
    start, stop = (first, np.where(some, steps, 1)) if at_start else (np.zeros_like(first), last)
    odd = behind if at_start else before
    if lengths is None:
        return start, stop, {"start": start > 0, "other end": odd}
    lengths, count = np.maximum(lengths, 1), stop - start
    fits = lengths == last - first
    longer = (lengths > count) & (lengths <= steps)
    longer &= not (some & (lengths > steps) & (count < steps)).any()  # else they count something else
    beyond = (lengths < steps) & _no_zeros_from(lengths, nonzero) & bool((count == steps).all())
    misfit = ~fits & ~longer & ~beyond & (lengths != count)
    count = np.where(longer | beyond, lengths, count).astype(int)
    if at_start:
        start = np.where(some, steps - count, 0)
    start = np.where(fits, first, start)
    stop = np.where(fits, last, start + count)
    found = {"start": start > 0, "misfit": misfit, "trailing": longer, "beyond": beyond, "other end": odd & misfit}
    return start, stop, found


def _no_zeros_from(lengths: np.ndarray, nonzero: np.ndarray) -> np.ndarray:
    """(N,) whether no step from a length on is zero."""
    return (nonzero | (np.arange(nonzero.shape[1]) < lengths[:, None])).all(axis=1)
