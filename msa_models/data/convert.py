"""Any corpus file to the one that is read fastest: an uncompressed `.npz` of the same keys and nothing but arrays.

What the file means is decided when it is read, by the layout that its keys have, before and after: so one conversion
serves every task, target and scale, and `nonfinite` stays a choice. Features become float32, everything else keeps its
type; text becomes text of NumPy. Each array begins at a multiple of 64 bytes and is stored as it is, so that it can be
mapped into memory. `train/warnings` has what can no longer be found in the converted file.
"""

import os
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from msa_models.data import containers, layouts
from msa_models.data.assemble import assemble
from msa_models.data.containers import RawCorpus
from msa_models.data.corpus import USUAL_ORDER, Corpus, CorpusError, Task
from msa_models.data.labels import IEMOCAP, MOSEI, SENTIMENT
from msa_models.data.layouts import tuples
from msa_models.data.raw import Request, features, padded
from msa_models.data.splitting import HoldOut, hold_out

_ALIGNMENT = 64  # bytes, to which NumPy pads what comes before the numbers of an array
_HEADERS = 30 + 4 + 20  # bytes in front of a member: its header, that of the padding, and the field of large sizes
_PADDING_FIELD = b"\x35\xd9"  # the extra field with which Android's zipalign moves members to where they should begin
_NUMBERS = (bool, int, float, np.number, np.bool_)
_WORDS = (str, bytes, type(None))


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written: samples by split, shapes (T, d) or (d,) of modalities, sizes in bytes, keys left out."""

    samples: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    size_before: int
    size_after: int
    left_out: tuple[str, ...]


def convert(source: Path, target: Path, *, trust: bool = False, force: bool = False) -> Converted:
    """Write the corpus file `source` to `target` (.npz), whole or not at all.

    The new file is read again before it gets its name: labels of every task, features, masks, ids and texts must come
    out bitwise as they do of the old one. With `trust` files are opened that run code then; with `force` a `target`
    that is there is replaced. Raises CorpusError for what cannot be converted, OSError for what cannot be written.
    """
    if target.suffix.lower() != ".npz":
        raise CorpusError(f"{target} ends in '{target.suffix}'; expected a name that ends in .npz")
    if target.exists() and not (force and target.is_file()):
        what = "is there already; --force replaces it" if target.is_file() else "is a folder; give the name of a file"
        raise CorpusError(f"{target} {what}")
    try:
        raw = containers.read(source, without_valid=None, trust=trust)
        layouts.find(raw)
        unread = target.with_name(f".{os.getpid()}.{target.name}")
        try:
            return _converted(raw, source, unread, target)
        finally:
            with suppress(FileNotFoundError):
                unread.unlink()
    except CorpusError as error:
        raise CorpusError(f"{source}: {error}") from error
    except MemoryError as error:
        raise CorpusError(f"{source}: it needs more memory than there is ({error or 'MemoryError'})") from error


def _converted(raw: RawCorpus, source: Path, unread: Path, target: Path) -> Converted:
    left_out: list[str] = []
    keyed = _keyed(raw)
    _write(unread, _arrays(keyed, left_out))
    labels = _labels(keyed)
    if not (requests := [request for request, found in labels.items() if not isinstance(found, CorpusError)]):
        raise next(error for error in labels.values() if isinstance(error, CorpusError))
    keyed.clear()  # as large as all the rest
    before = _corpus(raw, requests[0], target.stem)
    facts, warnings = _facts(before), before.warnings
    del before
    raw.clear()
    found = containers.read(unread, without_valid=None)
    samples = {split: len(each.targets) for split, each in layouts.read(found, requests[0]).splits.items()}
    again = _labels(found)
    corpus = _corpus(found, requests[0], target.stem)
    differing = [what for what, value in _facts(corpus).items() if value != facts[what]]
    differing += ["labels"] if any(again[request] != labels[request] for request in requests) else []
    if differing:
        raise CorpusError(
            f"its {', '.join(differing)} would read otherwise from the converted file; nothing is written"
        )
    if lost := [warning for warning in warnings if warning not in corpus.warnings]:
        _write(unread, iter([("train/warnings", np.array(lost))]), "a")
    os.replace(unread, target)
    return Converted(
        samples=samples,
        shapes={modality: values.shape[1:] for modality, values in corpus.splits["train"].inputs.items()},
        size_before=sum(each.stat().st_size for each in (source.iterdir() if source.is_dir() else [source])),
        size_after=target.stat().st_size,
        left_out=tuple(dict.fromkeys(left_out)),
    )


def _keyed(raw: RawCorpus) -> RawCorpus:
    """The same by keys, where the file has tuples, and unpadded sequences padded, with their numbers of steps."""
    keyed = tuples.keyed(raw) if layouts.find(raw) is tuples else raw
    found: RawCorpus = {}
    for split, content in keyed.items():
        inputs, steps = padded(features(content), split, content.get("id"))
        found[split] = content | inputs | {f"{modality}_unpadded": each for modality, each in steps.items()}
    return found


def _arrays(raw: RawCorpus, left_out: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """What there is as `split/key` and an array; the keys of what is neither numbers nor text go to `left_out`."""
    for split, content in raw.items():
        for key, value in content.items():
            array = None if value is None else _array(key, value)
            if array is not None and key.isprintable() and key:
                yield f"{split}/{key}", array
            elif value is not None:
                left_out.append(key)


def _array(key: str, value: Any) -> np.ndarray | None:
    """Numbers of one shape, float32 if they are features; text, also within lists; None of anything else."""
    try:
        array = np.asarray(value)
    except ValueError:  # of several shapes
        return None
    if array.dtype.kind in "OSU" or (key == "id" and array is not value):
        return _words(key, np.asarray(value, dtype=object))
    if array.dtype.kind not in "biuf":
        return None
    if key not in USUAL_ORDER:
        return array
    with np.errstate(over="ignore"):  # infinite, as for who reads the original
        return np.ascontiguousarray(array, "<f4")


def _words(key: str, objects: np.ndarray) -> np.ndarray | None:
    """Text or numbers out of an array of objects; names may be built of both."""
    items = objects.reshape(-1).tolist()
    if key != "id" and all(isinstance(item, _NUMBERS) for item in items):
        with suppress(ValueError, OverflowError):
            return objects.astype(np.float64)
        return None
    if not all(isinstance(item, (*_WORDS, *_NUMBERS) if key == "id" else _WORDS) for item in items):
        return None
    if not all(isinstance(item, bytes) for item in items):
        items = ["" if item is None and key == "raw_text" else _text(item) for item in items]
    array = np.array(items)
    if array.tolist() != items:
        raise CorpusError(f"{key} holds text that ends in a NUL character, which .npz cannot hold; remove it")
    return array.reshape(objects.shape)


def _text(item: object) -> str:
    return item.decode("utf-8", errors="replace") if isinstance(item, bytes) else str(item)


def _write(path: Path, arrays: Iterator[tuple[str, np.ndarray]], mode: Literal["w", "a"] = "w") -> None:
    with zipfile.ZipFile(path, mode) as archive:  # which it opens itself, so that none is closed twice on Ctrl-C
        for name, array in arrays:
            _store(archive, _member(name, archive.start_dir), array)
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _store(archive: zipfile.ZipFile, member: zipfile.ZipInfo, array: np.ndarray) -> None:
    with archive.open(member, "w", force_zip64=True) as sink:
        np.lib.format.write_array(sink, array, allow_pickle=False)


def _member(name: str, start: int) -> zipfile.ZipInfo:
    """A member whose content is aligned by padding, where its header begins at byte `start`."""
    member = zipfile.ZipInfo(f"{name}.npy")
    taken = start + _HEADERS + len(member.filename.encode())
    padding = -taken % _ALIGNMENT
    member.extra = _PADDING_FIELD + padding.to_bytes(2, "little") + bytes(padding)
    return member


def _corpus(raw: RawCorpus, request: Request, name: str) -> Corpus:
    reading = layouts.read(raw, request)
    return assemble(name, reading if "valid" in raw else hold_out(reading, HoldOut(share=0.5)), "zero")


def _facts(corpus: Corpus) -> dict[str, str]:
    return {"features, masks, labels or ids": corpus.fingerprint, "texts": corpus.texts_fingerprint}


def _labels(raw: RawCorpus) -> dict[Request, Any]:
    """For all that can be asked of the labels what they are, as something that can be compared, or the error."""
    raw = {split: {key: value for key, value in keys.items() if key not in USUAL_ORDER} for split, keys in raw.items()}
    requests = [Request(task=task) for task in get_args(Task)]
    requests += [Request(task="classification", target=target) for target in dict.fromkeys((*IEMOCAP, *MOSEI))]
    requests += [Request(task="regression", target=SENTIMENT)]
    found: dict[Request, Any] = {}
    for request in requests:
        try:
            reading = layouts.read(raw, request)
        except CorpusError as error:
            found[request] = error
            continue
        arrays = [labels for each in reading.splits.values() for labels in (each.targets, *each.unimodal.values())]
        values = [(labels.dtype.str, labels.shape, labels.tobytes()) for labels in arrays]
        found[request] = reading.task, reading.scale, reading.classes, values
    return found
