"""Corpus files opened without trusting them, `.pkl`, `.npz` or a folder of pickles: splits of named values."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from os import strerror
from pathlib import Path
from typing import Any

import numpy as np

from msa_models.data import bounds, pickles
from msa_models.data.archives import mapped_members
from msa_models.data.corpus import CorpusError
from msa_models.printable import command

SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "dev", "val"), "test": ("test",)}
SAMPLES = "samples"
_HELD_OUT = "data.valid: {share: 0.1} (for msa data describe: --valid-share 0.1)"
_NO_FILE = "it is neither a file nor a folder; write what it gives to a file first"  # a pipe may give nothing for ever
_MOST_EXPANDED = 64  # times as large as its bytes is an empty container of Python, and nothing else that a pickle has

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
    if not path.is_file():
        raise CorpusError(_NO_FILE)
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
            if not entry.is_file():
                raise CorpusError(_NO_FILE)
            content[entry.stem] = _content(entry, trust)
        except CorpusError as error:
            raise CorpusError(f"{entry.name}: {error}") from error
    return content


def _content(path: Path, trust: bool) -> object:
    suffix = path.suffix.lower()
    reader = pickles.run if trust and suffix in pickles.TRUSTED else _READERS.get(suffix)
    if reader is None and suffix in pickles.TRUSTED:
        converted = command("msa", "data", "convert", str(path), str(path.with_suffix(".npz")), "--trust")
        raise CorpusError(
            f"opening a {suffix} file runs code that is in it, so it was not opened; if you trust where it comes from, "
            f"convert it once: {converted}"
        )
    if reader is None:
        raise CorpusError(f"it ends in '{path.suffix}'; expected {', '.join(_READERS)}")
    try:
        return reader(path)
    except CorpusError:
        raise
    except OSError as error:
        raise CorpusError(f"it cannot be opened: {_why(error)}") from error
    except MemoryError as error:
        raise CorpusError(
            f"reading it takes far more memory than its {path.stat().st_size:,} bytes explain, or than there is; if it "
            "is not damaged, export it again"
        ) from error
    except Exception as error:  # a damaged file can raise anything
        fault = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CorpusError(
            f"it is cut short, damaged, or no {path.suffix} file ({fault}); copy or export it again"
        ) from error


def _read_pickle(path: Path) -> object:
    size = path.stat().st_size
    bounds.check(size, "its bytes")
    bounds.check_pickle(size, path)
    with path.open("rb") as file, bounds.at_most(_MOST_EXPANDED * size):
        return pickles.load(file)


def _read_npz(path: Path) -> dict[str, dict[str, np.ndarray]]:
    nested: dict[str, dict[str, np.ndarray]] = {}
    with ExitStack() as stack:
        archive = stack.enter_context(np.load(stack.enter_context(path.open("rb")), allow_pickle=False))
        sizes = {member.filename: member.file_size for member in archive.zip.infolist()}  # no more of each is ever read
        found = mapped_members(path, archive.zip)
        bounds.check(sum(sizes.values()) - sum(array.nbytes for array in found.values()), "its arrays")
        if twice := [name for name, times in Counter(archive.files).items() if times > 1]:
            raise CorpusError(f"its array '{twice[0]}' is there {archive.files.count(twice[0])} times; save it once")
        stack.enter_context(bounds.at_most(2 * sum(sizes.values())))
        for name in archive.files:
            split, slash, key = name.partition("/")
            if not slash or not key:
                raise CorpusError(f"its array '{name}' belongs to no split; expected names such as 'train/text'")
            try:
                array = found.get(f"{name}.npy")
                nested.setdefault(split, {})[key] = archive[name] if array is None else array
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
    content = _named(content, "its splits")
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
            {SAMPLES: value} if isinstance(value, list) else _named(value, f"the keys of its {present[0]} split")
        )
    return found


def _why(error: OSError) -> str:
    return strerror(error.errno) if error.errno else str(error)


def _named(content: dict[Any, Any], what: str) -> dict[str, Any]:
    """The same by the names of its keys, of which no two may be taken for each other."""
    found: dict[str, Any] = {}
    alike: dict[str, object] = {}
    for key, value in content.items():
        name = _name(key)
        other = alike.setdefault(unicodedata.normalize("NFKC", name).casefold().strip(), key)
        if other is not key:
            raise CorpusError(f"{what} {other!r} and {key!r} can be taken for each other; remove or rename one of them")
        found[name] = value
    return found


def _name(key: object) -> str:
    """A key as text; Python 2 wrote bytes."""
    return key.decode("utf-8", errors="replace") if isinstance(key, bytes) else str(key)
