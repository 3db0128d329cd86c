"""Files that run code when they are opened, for a user who trusts where one comes from: `msa data convert --trust`.

PyTorch's `.pt` and joblib's files are pickles, which call whatever they name; so is a `.pkl` that holds more than plain
data, such as tensors or tables of pandas. `torch.load(weights_only=True)` would call only what a list of PyTorch
allows, but that list is not ours to vouch for, and has no NumPy arrays in it, which most corpora are made of: one rule
for all of these files is simpler, and safer. Nothing else in this package opens them.
"""

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msa_models.data import plain_pickle
from msa_models.data.corpus import CorpusError


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
            return plain_pickle.load(file)
        except CorpusError as error:
            if "'joblib." in str(error):
                return _joblib(path)
        file.seek(0)
        return pickle.load(file, encoding="latin1")  # as `plain_pickle` reads what Python 2 wrote


READERS: dict[str, Callable[[Path], object]] = {
    ".pt": _torch,
    ".pth": _torch,
    ".joblib": _joblib,
    ".pkl": _pickle,
    ".pickle": _pickle,
}


def read(path: Path) -> object:
    """The content of a file that is opened by the program that wrote it, which runs what the file says.

    Tensors and columns of tables become NumPy arrays, in dictionaries, lists and tuples at any depth.
    """
    return _arrays(READERS[path.suffix.lower()](path))


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_arrays(item) for item in value] if isinstance(value, list) else tuple(map(_arrays, value))
    if hasattr(value, "detach"):  # a tensor; NumPy has no bfloat16
        tensor = value.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return value.to_numpy() if hasattr(value, "to_numpy") else value
