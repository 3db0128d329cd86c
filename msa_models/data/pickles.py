"""Pickles: read as plain data, so that nothing that a file could run is run; or run, for a user who trusts the file.

A pickle is a program that calls what it names. `load` reads NumPy arrays, numbers, text and containers: each name is
looked up in a short table of plain data and never imported. Arrays and types are not even handed to NumPy's restoring
methods, which trust what they are given (flags that contradict a type make them follow bytes as pointers): stand-ins
take the state of each, check it, and are replaced by the array when all is read. The array is a read-only view of the
bytes in the pickle, so that large ones are not held twice.

`run` is for `msa data convert --trust`. PyTorch's `.pt` and joblib's files are pickles, which call whatever they name;
so is a `.pkl` that holds more than plain data, such as tensors or tables of pandas. `torch.load(weights_only=True)`
would call only what a list of PyTorch allows, but that list is not ours to vouch for, and has no NumPy arrays in it,
which most corpora are made of: one rule for all of these files is simpler, and safer. Nothing else opens them.
"""

import importlib
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from msa_models.data.corpus import CorpusError

_MODULES = {
    "__builtin__": "builtins",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}
_ATOMS = (str, bytes, int, float, complex, type(None))
_PLAIN = (dict, list, tuple, set, frozenset, str, bytes, bytearray, bool, int, float, complex)
_MOST_ITEMS = 10**8  # a second for NumPy, and more than any corpus has outside of its arrays
_KINDS = re.compile(r"[biufc]\d{1,2}|[SUO]\d{0,9}")


def load(file: IO[bytes]) -> object:
    """The content of a pickle of any protocol; CorpusError names what is more than plain data."""
    # latin1 changes only what Python 2 wrote: its byte strings, and so its arrays, survive no other encoding.
    content = _resolved(_Unpickler(file, encoding="latin1").load(), {})
    if isinstance(content, dict) and (count := _written_out(content, {})) > _MOST_ITEMS:
        raise CorpusError(
            f"its lists hold each other so often that they come to {count:,} items, expected at most {_MOST_ITEMS:,}; "
            "save NumPy arrays"
        )
    return content


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may know by this name."""
        known = _known_names().get((_MODULES.get(module, module), name))
        if known is None:
            raise CorpusError(
                f"its pickle asks for '{module}.{name}', which plain data does not need, so nothing was run; "
                "save NumPy arrays, numbers and strings only, or, if you trust the file, convert it with "
                "msa data convert FILE OUT.npz --trust"
            )
        return known


def _known_names() -> dict[tuple[str, str], Any]:
    """What plain data needs; functions are made anew each time, because a pickle can alter one that it was given."""

    def reconstruct(*arguments: object) -> _Array:
        return _Array()

    def scalar(kind: _DType, raw: bytes | str) -> Any:
        return _array((1,), kind, False, raw)[0]

    def from_buffer(buffer: bytes | bytearray, kind: _DType, shape: tuple[int, ...], order: str) -> np.ndarray:
        return _array(shape, kind, order == "F", buffer)

    def encode(text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise CorpusError(f"its pickle asks for the codec '{encoding}', which plain data does not need")
        return text.encode("latin1")

    def without_default(*factory: object) -> dict[object, object]:
        return {}

    return {
        **{("builtins", kind.__name__): kind for kind in _PLAIN},
        ("collections", "OrderedDict"): OrderedDict,
        ("collections", "defaultdict"): without_default,
        ("_codecs", "encode"): encode,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DType,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "scalar"): scalar,
        ("numpy._core.numeric", "_frombuffer"): from_buffer,
    }


class _DType:
    """Stands in for a dtype: a kind such as f4 or U12, and a byte order."""

    __slots__ = ("dtype",)

    def __init__(self, kind: str, *flags: object) -> None:
        if not _KINDS.fullmatch(kind):
            raise CorpusError(f"its pickle holds an array of type '{kind}'; expected numbers or text")
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *parts = state
        if any(part is not None for part in parts[:3]):
            raise CorpusError("its pickle holds an array of records; expected numbers or text")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands in for an array until its state is known."""

    __slots__ = ("array",)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _DType, bool, Any]) -> None:
        self.array = _array(*state[1:])


def _array(shape: tuple[int, ...], kind: _DType, column_major: bool, raw: Any) -> np.ndarray:
    """An array from its bytes (as text where Python 2 wrote them), or from the list of its objects."""
    dtype = kind.dtype
    if dtype.kind == "O":
        array = np.empty(len(raw), object)
        for index, value in enumerate(raw):
            array[index] = value
        return array.reshape(shape)
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if not len(raw) and dtype.itemsize and math.prod(shape):
        raise CorpusError(f"its pickle holds an array of shape {shape} without its numbers; is the file whole?")
    array = np.frombuffer(raw, dtype) if len(raw) else np.zeros(shape, dtype)
    return array.reshape(shape, order="F" if column_major else "C")


def _resolved(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """The value with stand-ins replaced, containers in place; `done` has what was seen and its result, by identity."""
    if isinstance(value, _ATOMS):
        return value
    if id(value) in done:
        return done[id(value)][1]
    result = value.array if isinstance(value, _Array) else value
    done[id(value)] = value, result
    if isinstance(result, dict):
        for key, item in result.items():
            result[key] = _resolved(item, done)
    elif isinstance(result, list):
        result[:] = [_resolved(item, done) for item in result]
    elif isinstance(result, np.ndarray) and result.dtype.kind == "O":
        for index, item in np.ndenumerate(result):
            result[index] = _resolved(item, done)
    elif isinstance(result, tuple):
        result = tuple(_resolved(item, done) for item in result)
        done[id(value)] = value, result
    return result


def _written_out(value: dict[Any, Any] | list[Any] | tuple[Any, ...], known: dict[int, int]) -> int:
    """How many items there are in containers of containers, each as often as it is there: NumPy goes through all.

    What holds itself counts once; `known` has what was counted, by identity.
    """
    if id(value) not in known:
        known[id(value)] = 1
        items = value.values() if isinstance(value, dict) else value
        inner = [_written_out(item, known) for item in items if isinstance(item, dict | list | tuple)]
        known[id(value)] = len(value) + sum(inner)
    return known[id(value)]


def _torch(path: Path) -> object:
    import torch  # seconds of import, for those who have such a file

    return torch.load(path, map_location="cpu", weights_only=False)


def _joblib(path: Path) -> object:
    try:
        return importlib.import_module("joblib").load(path)
    except ModuleNotFoundError as error:
        if error.name != "joblib":
            raise
        raise CorpusError("joblib wrote it, and is needed to open it: pip install joblib") from error


def _pickle(path: Path) -> object:
    with path.open("rb") as file:
        try:
            return load(file)
        except CorpusError as error:
            if "'joblib." in str(error):
                return _joblib(path)
        file.seek(0)
        return pickle.load(file, encoding="latin1")  # as `load` reads what Python 2 wrote


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_arrays(item) for item in value] if isinstance(value, list) else tuple(map(_arrays, value))
    if hasattr(value, "detach"):  # a tensor; NumPy has no bfloat16
        tensor = value.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return value.to_numpy() if hasattr(value, "to_numpy") else value


TRUSTED: dict[str, Callable[[Path], object]] = {
    ".pt": _torch,
    ".pth": _torch,
    ".joblib": _joblib,
    ".pkl": _pickle,
    ".pickle": _pickle,
}


def run(path: Path) -> object:
    """The content of a file that is opened by the program that wrote it, which runs what the file says.

    Tensors and columns of tables become NumPy arrays, in dictionaries, lists and tuples at any depth.
    """
    return _arrays(TRUSTED[path.suffix.lower()](path))
