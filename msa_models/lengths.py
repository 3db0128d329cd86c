"""Which samples go together, by their lengths: padding costs as much as real steps, and attention by their square.

Sequences begin at step 0 (`msa_models.data.padding`), so a length is the place behind the last real step. Nothing here
changes what a network makes of a sample, beyond rounding and the draws of dropout.

N samples, B batch, T time steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from msa_models import seeding
from msa_models.config import TrainingConfig
from msa_models.data.corpus import Split

LONG = 128  # steps: what is shorter costs little as it is, and stays bit for bit what it always was
GRAIN = 16  # batches are cut to a multiple of so many steps


def lengths(mask: np.ndarray) -> np.ndarray:
    """The number of steps (N,) up to the last real one of a mask (N, T)."""
    return np.where(mask.any(1), mask.shape[1] - mask[:, ::-1].argmax(1), 0)


def trimmed(longest: int, steps: int) -> int:
    """The steps to keep of T `steps` where the longest sequence has so many."""
    return min(steps, max(1, -(-longest // GRAIN)) * GRAIN)


def epoch_order(split: Split, settings: TrainingConfig, seed: int, epoch: int) -> np.ndarray:
    """The samples (N,) of an epoch in their order, a function of seed and epoch; batches are cut from it one by one.

    With `buckets: N` the samples of every N batches are sorted by their lengths, summed over the modalities, before
    they are cut into batches, which then come in an order of their own. Who is among these N batches, and who is left
    for a last one that is smaller, is drawn as without buckets.
    """
    order = seeding.generator(seed, "order", epoch).permutation(len(split))
    size, num_batches = settings.batch_size, len(order) // settings.batch_size
    if settings.buckets == 1 or not split.masks or num_batches < 2:
        return order
    total = np.sum([lengths(mask) for mask in split.masks.values()], axis=0)
    whole, rest = order[: num_batches * size], order[num_batches * size :]
    pools = (whole[first : first + size * settings.buckets] for first in range(0, len(whole), size * settings.buckets))
    alike = np.concatenate([pool[np.argsort(total[pool], kind="stable")] for pool in pools])
    shuffled = seeding.generator(seed, "buckets", epoch).permutation(num_batches)
    return np.concatenate([alike.reshape(num_batches, size)[shuffled].ravel(), rest])


def within(split: Split, size: int, max_tokens: int) -> list[np.ndarray]:
    """Batches of at most `size` samples, and `max_tokens` steps of all modalities, those of padding too.

    One sample at least. They come as they stand where so many samples have no more steps than that, else from the
    longest to the shortest.
    """
    padded = sum(mask.shape[1] for mask in split.masks.values())
    rows = np.arange(len(split))
    if min(size, len(split)) * padded <= max_tokens:
        return [rows[start : start + size] for start in range(0, len(rows), size)]
    real = np.stack([lengths(mask) for mask in split.masks.values()])
    order = np.argsort(-real.sum(0), kind="stable")
    steps = [mask.shape[1] for mask in split.masks.values()]
    return [order[part] for part in _cut(real[:, order], steps, size, max_tokens)]


def alike(lengths: Sequence[int], steps: int, max_tokens: int) -> list[list[int]]:
    """Samples of a batch of sequences (B, T) in groups of at most `max_tokens` steps, from the longest to the shortest.

    All of them, as they stand, where the batch has no more.
    """
    if len(lengths) * steps <= max_tokens:
        return [list(range(len(lengths)))]
    real = np.array([lengths])
    order = np.argsort(-real[0], kind="stable")
    return [order[part].tolist() for part in _cut(real[:, order], [steps], len(order), max_tokens)]


def _cut(real: np.ndarray, steps: Sequence[int], size: int, max_tokens: int) -> Iterator[slice]:
    """Slices of samples whose lengths (M, N) are in some order, as many at a time as fit."""
    start, longest = 0, np.zeros(len(real), int)
    for index in range(real.shape[1]):
        longest = np.maximum(longest, real[:, index])
        tokens = sum(trimmed(int(each), most) for each, most in zip(longest, steps, strict=True))
        count = index + 1 - start
        if count > 1 and (count > size or count * tokens > max_tokens):
            yield slice(start, index)
            start, longest = index, real[:, index]
    yield slice(start, real.shape[1])
