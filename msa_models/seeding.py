"""Every random draw is a function of a seed and of what it is for, never of what ran before in the process."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from msa_models.lazy import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. `derive(3, "order", epoch)`; distinct purposes give independent streams."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose."""
    return np.random.default_rng(derive(seed, *purpose))


@contextmanager
def scope(seed: int, *purpose: str | int) -> Iterator[None]:
    """Draws of torch's global CPU generator inside depend on (seed, purpose) alone; those outside are not disturbed.

    Each component draws its initial weights in a scope of its own, so removing one leaves all others bitwise unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, *purpose))
        yield
