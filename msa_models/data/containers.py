"""Corpus files opened without trusting them: `.pkl` and `.npz`, each as splits of named values."""

import shlex
from collections.abc import Callable
from os import strerror
from pathlib import Path
from typing import Any

import numpy as np

from msa_models.data import plain_pickle, trusted
from msa_models.data.corpus import CorpusError

SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "dev", "val"), "test": ("test",)}

RawCorpus = dict[str, dict[str, Any]]


def read(path: Path, *, trust: bool = False) -> RawCorpus:
    """The file as {train, valid, test} -> key -> value, unchecked beyond that.

    Formats: `.pkl` / `.pickle`, and `.npz` with keys such as `train/text`. The validation split may be called valid,
    dev or val. With `trust` also files that run code when they are opened, see `trusted`.
    """
    suffix = path.suffix.lower()
    reader = trusted.read if trust and suffix in trusted.READERS else _READERS.get(suffix)
    if path.is_dir():
        raise CorpusError(f"it is a folder; give one file ({', '.join(_READERS)})")
    if not path.exists():
        raise CorpusError("there is no such file")
    if reader is None and suffix in trusted.READERS:
        command = ["msa", "data", "convert", str(path), str(path.with_suffix(".npz")), "--trust"]
        raise CorpusError(
            f"opening a {suffix} file runs code that is in it, so it was not opened; if you trust where it comes from, "
            f"convert it once: {shlex.join(command)}"
        )
    if reader is None:
        raise CorpusError(f"it ends in '{path.suffix}'; expected {', '.join(_READERS)}")
    try:
        return _splits(reader(path))
    except CorpusError:
        raise
    except OSError as error:
        raise CorpusError(f"it cannot be opened: {strerror(error.errno) if error.errno else error}") from error
    except Exception as error:  # a damaged file can raise anything
        fault = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CorpusError(
            f"it is cut short, damaged, or no {path.suffix} file ({fault}); copy or export it again"
        ) from error


def told(raw: RawCorpus) -> tuple[str, ...]:
    """Warnings that a conversion has written into a file, because they could not be found in it any more."""
    said = raw["train"].get("warnings")
    if not isinstance(said, np.ndarray) or said.dtype.kind != "U":
        return ()
    return tuple(line for line in said.reshape(-1).tolist() if line.isprintable())


def _read_pickle(path: Path) -> object:
    with path.open("rb") as file:
        return plain_pickle.load(file)


def _read_npz(path: Path) -> dict[str, dict[str, np.ndarray]]:
    nested: dict[str, dict[str, np.ndarray]] = {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        for name in archive.files:
            split, slash, key = name.partition("/")
            if not slash or not key:
                raise CorpusError(f"its array '{name}' belongs to no split; expected names such as 'train/text'")
            try:
                nested.setdefault(split, {})[key] = archive[name]
            except ValueError as error:
                if "Object arrays" not in str(error):
                    raise
                raise CorpusError(
                    f"its array '{name}' holds Python objects; save numbers, or text as np.array(x, dtype=str)"
                ) from error
    return nested


_READERS: dict[str, Callable[[Path], object]] = {".pkl": _read_pickle, ".pickle": _read_pickle, ".npz": _read_npz}


def _splits(content: object) -> RawCorpus:
    if not isinstance(content, dict):
        raise CorpusError(f"it holds a {type(content).__name__}; expected a dictionary with train, valid and test")
    found: RawCorpus = {}
    for split, accepted in SPLIT_NAMES.items():
        present = [name for name in accepted if name in content]
        keys = ", ".join(map(str, content)) or "nothing"
        if len(present) != 1:
            count = f"both {' and '.join(present)}, one too many" if present else "no such split"
            raise CorpusError(f"{split} split: there is {count}; expected {' or '.join(accepted)}, found {keys}")
        value = content[present[0]]
        if not isinstance(value, dict):
            raise CorpusError(
                f"its {present[0]} split is a {type(value).__name__}; expected a dictionary (text, audio, id, ...)"
            )
        found[split] = {str(key): item for key, item in value.items()}
    return found
