"""The same samples in every dialect of every layout are bit for bit the same corpus."""

import io
import pickle
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msa_models.data import Corpus, CorpusError, containers, layouts, load
from msa_models.data.assemble import assemble
from msa_models.data.raw import Request
from tests.msa_models.data.cases import CASES

Raw = dict[str, dict[str, Any]]
Sample = dict[str, Any]  # its id as video and clip, score, and sequences (T_i, d) of each modality
WIDTHS = {"text": 4, "audio": 3, "vision": 2}


def samples(seed: int, most: int) -> dict[str, list[Sample]]:
    """A few samples of 1 to `most` steps for each split."""
    draws = np.random.default_rng(seed)
    return {
        split: [
            {"id": (f"{split}_{seed}-{index // 2}", index), "score": np.float32(draws.uniform(-3, 3))}
            | {
                modality: draws.normal(size=(draws.integers(1, most + 1), width)).astype(np.float32)
                for modality, width in WIDTHS.items()
            }
            for index in range(count)
        ]
        for split, count in (("train", 5), ("valid", 3), ("test", 3))
    }


def padded(sequences: list[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(sequences), max(map(len, sequences)), sequences[0].shape[1]), np.float32)
    for row, values in zip(out, sequences, strict=True):
        row[: len(values)] = values
    return out


def ragged(sequences: list[np.ndarray]) -> np.ndarray:
    rows = np.empty(len(sequences), object)
    for index, values in enumerate(sequences):
        rows[index] = values
    return rows


def split_of(found: list[Sample], make: Callable[[list[np.ndarray]], Any], *, mult: bool = False) -> dict[str, Any]:
    """In the MMSA layout or in MulT's."""
    scores = np.array([sample["score"] for sample in found])
    labels = {"labels": scores[:, None, None]} if mult else {"regression_labels": scores}
    pattern = "{}[{}]" if mult else "{}$_${}"
    return {
        **{modality: make([sample[modality] for sample in found]) for modality in WIDTHS},
        **labels,
        "id": [pattern.format(*sample["id"]) for sample in found],
    }


def in_mmsa(found: dict[str, list[Sample]], make: Callable[[list[np.ndarray]], Any] = padded) -> Raw:
    return {split: split_of(each, make) for split, each in found.items()}


def with_lengths(found: dict[str, list[Sample]]) -> Raw:
    raw = in_mmsa(found)
    for split, each in found.items():
        raw[split] |= {f"{name}_lengths": [len(sample[name]) for sample in each] for name in ("audio", "vision")}
    return raw


def in_bytes(raw: Raw) -> Any:
    """As Python 2 wrote it, and Python 3 kept it: keys and ids are bytes."""
    return {
        split.encode(): {
            key.encode(): [name.encode() for name in value] if key == "id" else value for key, value in each.items()
        }
        for split, each in raw.items()
    }


def in_tuples(found: dict[str, list[Sample]], *more: Any) -> dict[str, list[Any]]:
    return {
        {"valid": "dev"}.get(split, split): [
            (
                (sample["text"], sample["vision"], sample["audio"], *more),
                np.array([[sample["score"]]], np.float32),
                "{}[{}]".format(*sample["id"]),
            )
            for sample in each
        ]
        for split, each in found.items()
    }


def pickled(content: Any, folder: Path, protocol: int = 4) -> Path:
    path = folder / "corpus.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def archived(raw: Raw, folder: Path) -> Path:
    path, sink = folder / "corpus.npz", io.BytesIO()
    arrays = {f"{split}/{key}": np.asarray(value) for split, each in raw.items() for key, value in each.items()}
    np.savez_compressed(sink, **arrays)  # pyright: ignore[reportArgumentType]
    path.write_bytes(sink.getvalue())
    return path


def foldered(content: dict[str, Any], folder: Path, name: str = "corpus") -> Path:
    path = folder / name
    path.mkdir(exist_ok=True)
    for split, value in content.items():
        (path / f"{split}.pkl").write_bytes(pickle.dumps(value, 4))
    return path


def lists(sequences: list[np.ndarray]) -> list[Any]:
    return padded(sequences).tolist()


def ragged_lists(sequences: list[np.ndarray]) -> list[Any]:
    return [values.astype(np.float64).tolist() for values in sequences]


Samples = dict[str, list[Sample]]
DIALECTS: dict[str, Callable[[Samples, Path], Path]] = {
    "with lengths": lambda found, at: pickled(with_lengths(found), at),
    "lists": lambda found, at: pickled(in_mmsa(found, lists), at),
    "ragged arrays": lambda found, at: pickled(in_mmsa(found, ragged), at),
    "lists of ragged arrays": lambda found, at: pickled(in_mmsa(found, list), at),
    "ragged lists": lambda found, at: pickled(in_mmsa(found, ragged_lists), at),
    "bytes keys": lambda found, at: pickled(in_bytes(with_lengths(found)), at, 2),
    "an archive": lambda found, at: archived(with_lengths(found), at),
    "a folder": lambda found, at: foldered(in_mmsa(found), at),
    "MulT": lambda found, at: pickled({split: split_of(each, padded, mult=True) for split, each in found.items()}, at),
    "MulT, ragged": lambda found, at: pickled(
        {split: split_of(each, ragged, mult=True) for split, each in found.items()}, at, 2
    ),
    "tuples": lambda found, at: pickled(in_tuples(found), at),
    "tuples, protocol 0": lambda found, at: pickled(in_tuples(found), at, 0),
    "a folder of tuples": lambda found, at: foldered(in_tuples(found), at, "tuples"),
}


def assembled(path: Path) -> Corpus:
    """As `load`, but for the warnings that all corpora alike are searched for, which take time."""
    return assemble(path.stem, layouts.read(containers.read(path), Request()))


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), most=st.integers(1, 6))
def test_the_same_samples_are_the_same_corpus_in_every_dialect(seed: int, most: int, tmp_path: Path) -> None:
    found = samples(seed, most)
    expected = assembled(pickled(in_mmsa(found), tmp_path))
    for name, write in DIALECTS.items():
        corpus = assembled(write(found, tmp_path))
        assert (corpus.fingerprint, corpus.warnings) == (expected.fingerprint, expected.warnings), name


def test_dictionaries_with_defaults_are_dictionaries_without(tmp_path: Path) -> None:
    found = in_mmsa(samples(1, 3))
    expected = assembled(pickled(found, tmp_path)).fingerprint
    kept = defaultdict(dict, {split: defaultdict(list, each) for split, each in found.items()})
    for protocol in (0, 2, 5):
        path = pickled(kept, tmp_path, protocol)
        assert assembled(path).fingerprint == expected
        assert type(containers.read(path)["train"]) is dict


# folders


def test_a_damaged_split_is_named(tmp_path: Path) -> None:
    path = foldered(CASES["tuples"](), tmp_path)
    (path / "dev.pkl").write_bytes(b"nothing")
    with pytest.raises(CorpusError, match=r"corpus: dev\.pkl: it is cut short, damaged, or no \.pkl file"):
        load(path)


def test_a_split_in_two_files_is_refused(tmp_path: Path) -> None:
    path = foldered(CASES["tuples"](), tmp_path)
    (path / "dev.pickle").write_bytes((path / "dev.pkl").read_bytes())
    with pytest.raises(CorpusError, match="a folder with dev in two files"):
        load(path)


@pytest.mark.slow
def test_other_files_do_not_matter(tmp_path: Path) -> None:
    path = foldered(CASES["tuples"](), tmp_path)
    for name in ("embedding_and_mapping.pt", "notes.pkl", "train.txt"):
        (path / name).write_bytes(b"anything")
    assert load(path).name == "corpus"
