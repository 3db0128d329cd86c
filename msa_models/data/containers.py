"""Corpus files opened without trusting them, `.pkl`, `.npz` or a folder of pickles: splits of named values."""

import os
import shlex
from collections.abc import Callable
from os import strerror
from pathlib import Path
from typing import Any

import numpy as np

from msa_models.data import pickles
from msa_models.data.corpus import CorpusError

SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "dev", "val"), "test": ("test",)}
SAMPLES = "samples"
_HELD_OUT = "data.valid: {share: 0.1} (for msa data describe: --valid-share 0.1)"

RawCorpus = dict[str, dict[str, Any]]


def read(path: Path, *, without_valid: bool | None = False, trust: bool = False) -> RawCorpus:
    """The file as {train, valid, test} -> key -> value, unchecked beyond that.

    Formats: `.pkl` / `.pickle`, `.npz` with keys such as `train/text`, and a folder of train.pkl, dev.pkl and test.pkl.
    The validation split may be called valid, dev or val, is expected to be missing `without_valid`, and may or may not
    be there with None. A split that is a list of samples comes as that list, under the key "samples". With `trust` also
    files that run code when they are opened, see `pickles`.
    """
    try:
        content = _opened(path, trust)
    except OSError as error:
        raise CorpusError(f"it cannot be opened: {_why(error)}") from error
    return _splits(content, without_valid)


def told(raw: RawCorpus) -> tuple[str, ...]:
    """Warnings that a conversion has written into a file, because they could not be found in it any more."""
    said = raw["train"].get("warnings")
    if not isinstance(said, np.ndarray) or said.dtype.kind != "U":
        return ()
    return tuple(line for line in said.reshape(-1).tolist() if line.isprintable())


def _opened(path: Path, trust: bool) -> object:
    if path.is_symlink() and not path.exists():
        raise CorpusError(f"it is a link to {os.readlink(path)}, and no file is there")
    if not path.exists():
        raise CorpusError("there is no such file")
    if path.is_dir():
        return _folder(path, trust)
    if not path.is_file():  # reading a pipe waits for who may never write
        raise CorpusError("it is neither a file nor a folder; write what it gives to a file first")
    return _content(path, trust)


def _folder(path: Path, trust: bool) -> dict[str, object]:
    """The content of train.pkl, dev.pkl and test.pkl by their names."""
    names = [name for accepted in SPLIT_NAMES.values() for name in accepted]
    found = [
        entry for entry in sorted(path.iterdir()) if entry.stem in names and _READERS.get(entry.suffix) == _read_pickle
    ]
    if not found:
        raise CorpusError(
            f"it is a folder without train.pkl; give one file ({', '.join(_READERS)}), or a folder of train.pkl, "
            "dev.pkl and test.pkl"
        )
    content: dict[str, object] = {}
    for entry in found:
        if entry.stem in content:
            raise CorpusError(f"it is a folder with {entry.stem} in two files; remove one of them")
        try:
            content[entry.stem] = _content(entry, trust)
        except CorpusError as error:
            raise CorpusError(f"{entry.name}: {error}") from error
    return content


def _content(path: Path, trust: bool) -> object:
    suffix = path.suffix.lower()
    reader = pickles.run if trust and suffix in pickles.TRUSTED else _READERS.get(suffix)
    if reader is None and suffix in pickles.TRUSTED:
        command = ["msa", "data", "convert", str(path), str(path.with_suffix(".npz")), "--trust"]
        raise CorpusError(
            f"opening a {suffix} file runs code that is in it, so it was not opened; if you trust where it comes from, "
            f"convert it once: {shlex.join(command)}"
        )
    if reader is None:
        raise CorpusError(f"it ends in '{path.suffix}'; expected {', '.join(_READERS)}")
    try:
        return reader(path)
    except CorpusError:
        raise
    except OSError as error:
        raise CorpusError(f"it cannot be opened: {_why(error)}") from error
    except Exception as error:  # a damaged file can raise anything
        fault = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CorpusError(
            f"it is cut short, damaged, or no {path.suffix} file ({fault}); copy or export it again"
        ) from error


def _read_pickle(path: Path) -> object:
    with path.open("rb") as file:
        return pickles.load(file)


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


def _splits(content: object, without_valid: bool | None) -> RawCorpus:
    if not isinstance(content, dict):
        raise CorpusError(f"it holds a {type(content).__name__}; expected a dictionary with train, valid and test")
    content = {_name(key): value for key, value in content.items()}
    found: RawCorpus = {}
    for split, accepted in SPLIT_NAMES.items():
        present = [name for name in accepted if name in content]
        keys = ", ".join(content) or "nothing"
        if split == "valid" and (without_valid or (without_valid is None and not present)):
            if present:
                raise CorpusError(f"it has a split {present[0]} of its own; leave data.valid out, or take another file")
            continue
        if len(present) != 1:
            count = f"both {' and '.join(present)}, one too many" if present else "no such split"
            hint = "" if split != "valid" or present else f"; {_HELD_OUT} takes it from train"
            raise CorpusError(f"{split} split: there is {count}; expected {' or '.join(accepted)}, found {keys}{hint}")
        value = content[present[0]]
        if not isinstance(value, dict | list):
            raise CorpusError(
                f"its {present[0]} split is a {type(value).__name__}; expected a dictionary (text, audio, id, ...) "
                "or a list of samples"
            )
        found[split] = (
            {SAMPLES: value} if isinstance(value, list) else {_name(key): each for key, each in value.items()}
        )
    return found


def _why(error: OSError) -> str:
    return strerror(error.errno) if error.errno else str(error)


def _name(key: object) -> str:
    """A key as text; Python 2 wrote bytes."""
    return key.decode("utf-8", errors="replace") if isinstance(key, bytes) else str(key)
