"""Corpora of the shapes of CMU-MOSI and CMU-MOSEI, written a few samples at a time, as `msa data convert` writes them.

The label is in the features of each modality, in one direction, so that there is something to learn; lengths are those
of spoken utterances, a gamma distribution cut at T. Sequences are padded behind.

N samples, T steps, d features.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msa_models.data.convert import _member

CHUNK = 64  # samples that are in memory at a time


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Samples by split, and (T, d) by modality."""

    samples: dict[str, int]
    modalities: dict[str, tuple[int, int]]

    @property
    def bytes_by_split(self) -> dict[str, int]:
        """Bytes of the features, float32."""
        sample = 4 * sum(steps * width for steps, width in self.modalities.values())
        return {split: sample * count for split, count in self.samples.items()}

    def smaller(self, times: int) -> "Shape":
        """The same with so many times fewer samples."""
        return replace(self, samples={split: max(2, count // times) for split, count in self.samples.items()})


_MOSI = {"train": 1284, "valid": 229, "test": 686}
_MOSEI = {"train": 16_326, "valid": 1_871, "test": 4_659}
SHAPES = {
    "mosi": Shape(samples=_MOSI, modalities={"text": (50, 768), "audio": (50, 5), "vision": (50, 20)}),
    "mosi-unaligned": Shape(samples=_MOSI, modalities={"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}),
    "mosei": Shape(samples=_MOSEI, modalities={"text": (50, 768), "audio": (50, 74), "vision": (50, 35)}),
    "mosei-unaligned": Shape(samples=_MOSEI, modalities={"text": (50, 768), "audio": (500, 74), "vision": (500, 35)}),
}


def write(path: Path, shape: Shape, seed: int = 0) -> None:
    """The corpus as an uncompressed .npz of the keys of MMSA."""
    with zipfile.ZipFile(path, "w") as archive:
        for split, count in shape.samples.items():
            labels = np.round(np.random.default_rng([seed, count]).uniform(-3, 3, count) * 5).astype(np.float32) / 5
            _array(archive, f"{split}/regression_labels", labels)
            _array(archive, f"{split}/id", np.array([f"{split}{index // 10}$_${index % 10}" for index in range(count)]))
            for place, (modality, (steps, width)) in enumerate(shape.modalities.items()):
                lengths = _lengths(count, steps, np.random.default_rng([seed, count, place, 1]))
                _array(archive, f"{split}/{modality}_lengths", lengths)
                with archive.open(_member(f"{split}/{modality}", archive.start_dir), "w", force_zip64=True) as sink:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (count, steps, width)}
                    np.lib.format.write_array_header_1_0(sink, header)
                    for values in _features(labels, lengths, (steps, width), [seed, count, place]):
                        sink.write(values.data)


def _lengths(count: int, steps: int, draws: np.random.Generator) -> np.ndarray:
    return np.clip(draws.gamma(2.0, steps / 5, count), 1, steps).astype(np.int64)


def _features(labels: np.ndarray, lengths: np.ndarray, sizes: tuple[int, int], seed: list[int]) -> Iterator[np.ndarray]:
    steps, width = sizes
    direction = np.random.default_rng([seed[0], seed[2], width]).standard_normal(width, np.float32) / 4
    for start in range(0, len(labels), CHUNK):
        rows = slice(start, start + CHUNK)
        draws = np.random.default_rng([*seed, start])
        values = draws.standard_normal((len(labels[rows]), steps, width), np.float32)
        values += labels[rows, None, None] * direction
        values[np.arange(steps) >= lengths[rows, None]] = 0.0
        yield values


def _array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(_member(name, archive.start_dir), "w", force_zip64=True) as sink:
        np.lib.format.write_array(sink, array, allow_pickle=False)
