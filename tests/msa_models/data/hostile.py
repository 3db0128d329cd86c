"""What corpus files of any content are tried with: the file is read, and nothing that it asks for may be run.

An audit hook hears what Python is about to do, so that code execution is noticed whatever it does. Memory is bounded
while a file is read: a few damaged bytes may ask for any amount of it, and get an error.
"""

import importlib
import resource
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from msa_models.data import Corpus, CorpusError, layouts, load

few = settings(max_examples=80, deadline=None, derandomize=True)
many = settings(max_examples=250, deadline=None, derandomize=True)
HARM = ("exec", "os.", "subprocess.", "shutil.", "socket.", "ctypes.", "pickle.find_class", "code.", "pty.")
HARMLESS = ("os.listdir", "os.scandir")
ROOM = 2 << 30  # bytes of address space that reading a small file may take

_heard: list[str] = []
_listening: int | None = None  # to which thread: others may tidy up after tests before


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if threading.get_ident() != _listening:
        return
    writes = event == "open" and isinstance(arguments[1], str) and bool(set("wxa+") & set(arguments[1]))
    imports = event == "exec" and Path(arguments[0].co_filename).is_file()  # a module of the program itself
    if writes or (event.startswith(HARM) and not event.startswith(HARMLESS) and not imports):
        _heard.append(f"{event} {arguments}"[:200])


@cache
def _hook() -> None:
    own = [f"{layouts.__name__}.{name}" for name in layouts.names()]
    for name in (*own, "psutil"):  # a first import writes compiled files, and makes classes
        importlib.import_module(name)
    sys.addaudithook(_hear)  # it cannot be taken away again


@contextmanager
def watched() -> Iterator[None]:
    """Bound the memory, and fail if anything is run or written meanwhile."""
    global _listening
    _hook()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _heard.clear()
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    _listening = threading.get_ident()
    try:
        yield
    finally:
        _listening = None
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    heard = list(_heard)
    assert not heard, heard  # said here, as pytest rewrites asserts of tests only


def outcome(content: bytes, suffix: str = ".pkl", **asked: Any) -> Corpus | CorpusError:
    """What becomes of a file with this content, checked to be one of the two things that may."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"corpus{suffix}"
        path.write_bytes(content)
        found: Corpus | CorpusError
        with watched():
            try:
                found = load(path, **asked)
            except CorpusError as error:
                found = error
        if isinstance(found, CorpusError):
            assert str(found).startswith(f"{path}: ")
            assert len(str(found).splitlines()) == 1, str(found)
        else:
            check(found)
    return found


def check(corpus: Corpus) -> None:
    """What every corpus is: finite, of equal counts, with an id for each sample."""
    for split in corpus.splits.values():
        count = len(split.targets)
        assert count > 0
        assert len(split.ids) == count
        assert np.isfinite(split.targets).all()
        assert corpus.task == "regression" or (
            (split.targets >= 0).all() and (split.targets < len(corpus.classes)).all()
        )
        for name, values in split.inputs.items():
            assert values.dtype == np.float32
            assert len(values) == count
            assert np.isfinite(values).all()
            assert values.ndim == 2 or split.masks[name].shape == values.shape[:2]


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.just(10**40),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=4),
)
dtypes = st.sampled_from(["f2", "f4", ">f8", "i1", "u8", "?", "c8", "U3", "S3", "O"])
shapes = st.lists(st.sampled_from([0, 1, 2, 3, 6, 8, 12]), max_size=3).map(tuple)
arrays = st.builds(
    lambda shape, dtype, seed: np.random.default_rng(seed).integers(0, 4, shape).astype(dtype),
    shapes,
    dtypes,
    st.integers(0, 3),
)
things = st.recursive(
    scalars | arrays,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(scalars, inner, max_size=3),
    max_leaves=8,
)
