"""Corpus files of any content: a corpus or a CorpusError of one line leaves, and nothing that a file asks for is run.

An audit hook hears what Python is about to do, so that code execution is noticed whatever it does. Memory is bounded
while a file is read: a few damaged bytes may ask for any amount of it, and get an error.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from msa_models.data import Corpus, CorpusError, load
from tests.damage import Damage, damages
from tests.msa_models.data.conftest import build_mmsa, build_mult

few = settings(max_examples=150, deadline=None, derandomize=True)
many = settings(max_examples=600, deadline=None, derandomize=True)
HARM = ("exec", "os.", "subprocess.", "shutil.", "socket.", "ctypes.", "pickle.find_class", "code.", "pty.")
HARMLESS = ("os.listdir", "os.scandir")
ROOM = 2 << 30  # bytes of address space that reading a small file may take

_heard: list[str] = []
_listening = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _listening:
        return
    writes = event == "open" and isinstance(arguments[1], str) and bool(set("wxa+") & set(arguments[1]))
    imports = event == "exec" and Path(arguments[0].co_filename).is_file()  # a module of the program itself
    if writes or (event.startswith(HARM) and not event.startswith(HARMLESS) and not imports):
        _heard.append(f"{event} {arguments}"[:200])


@cache
def _hook() -> None:
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
    _listening = True
    try:
        yield
    finally:
        _listening = False
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert _heard == []


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


@cache
def valid_files() -> list[tuple[str, bytes]]:
    """Corpora as their users write them."""
    made = []
    for raw in (build_mmsa(), build_mult()):
        made += [(".pkl", pickle.dumps(raw, protocol)) for protocol in (0, 2, 4, 5)]
        for save in (np.savez, np.savez_compressed):
            sink = io.BytesIO()
            arrays = {f"{split}/{key}": np.asarray(value) for split, keys in raw.items() for key, value in keys.items()}
            plain = {name: each.astype(str) if each.dtype == object else each for name, each in arrays.items()}
            save(sink, **plain)  # pyright: ignore[reportArgumentType]
            made.append((".npz", sink.getvalue()))
    return made


OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
DAMAGES = damages(st.sampled_from(OPCODES))


@pytest.mark.parametrize(
    ("suffix", "content"), valid_files(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_files_that_are_damaged_below_are_whole(suffix: str, content: bytes) -> None:
    assert isinstance(outcome(content, suffix), Corpus)


@pytest.mark.slow
@many
@given(number=st.integers(0, len(valid_files()) - 1), changes=st.lists(DAMAGES, min_size=1, max_size=4))
def test_a_damaged_file_is_a_corpus_or_one_clear_line(number: int, changes: list[Damage]) -> None:
    suffix, content = valid_files()[number]
    for change in changes:
        content = change.do(content)
    outcome(content, suffix)


@few
@given(content=st.binary(max_size=80), suffix=st.sampled_from([".pkl", ".npz", ".pt", ".pth", ".joblib"]))
def test_any_bytes_are_one_clear_line(content: bytes, suffix: str) -> None:
    assert isinstance(outcome(content, suffix), CorpusError)


@few
@given(operations=st.lists(st.sampled_from(OPCODES) | st.binary(max_size=4), max_size=30))
def test_any_program_of_pickle_opcodes_is_one_clear_line(operations: list[bytes]) -> None:
    assert isinstance(outcome(b"".join(operations) + b"."), CorpusError)


# what is whole but not what it should be

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
KEYS = sorted({*build_mmsa()["train"], *build_mult()["train"], "text_lengths", "vision_lengths", "regression_labels_T"})


changes = st.tuples(
    st.sampled_from(["train", "valid", "test", "all"]), st.sampled_from(KEYS) | st.sampled_from(KEYS) | scalars, things
)
misplaced = st.tuples(st.sampled_from(["train", "dev", "test"]) | scalars, things)


@pytest.mark.slow
@many
@given(
    base=st.sampled_from(["mmsa", "mult", "emotions"]),
    changed=st.lists(changes, min_size=1, max_size=3),
    besides=st.lists(misplaced, max_size=1),
    protocol=st.integers(0, pickle.HIGHEST_PROTOCOL),
    task=st.sampled_from(["regression", "classification"]),
    target=st.sampled_from([None, None, "happy", "joy"]),
    nonfinite=st.sampled_from(["refuse", "zero"]),
)
def test_any_content_is_a_corpus_or_one_clear_line(
    base: str, changed: list[tuple[str, Any, Any]], besides: list[tuple[Any, Any]], protocol: int, **asked: Any
) -> None:
    raw: dict[Any, Any] = build_mmsa() if base == "mmsa" else build_mult(base == "emotions")
    for split, key, value in changed:
        for each in raw if split == "all" else [split]:
            raw[each][key] = value
    outcome(pickle.dumps(raw | dict(besides), protocol), **asked)


@few
@given(content=things)
def test_anything_in_the_place_of_a_corpus_is_one_clear_line(content: Any) -> None:
    assert isinstance(outcome(pickle.dumps(content)), CorpusError)


@pytest.mark.parametrize("label", [1e40, 3e8, 2.0**63, -1.0, 0.5])
def test_a_label_that_can_be_no_class_index_is_one_clear_line(label: float) -> None:
    raw = build_mmsa()
    raw["train"]["classification_labels"][0] = label
    assert isinstance(outcome(pickle.dumps(raw), task="classification"), CorpusError)


@pytest.mark.parametrize("text", ["a\nb", "a\x85b", "\u2028"])
def test_what_a_file_calls_things_does_not_break_the_line_that_repeats_it(text: str) -> None:
    for raw in ({text: 1}, {name: {text: 1} for name in ("train", "valid", "test")}):
        assert isinstance(outcome(pickle.dumps(raw)), CorpusError)


# hostile


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._call


NAMES = [
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("__builtin__", "apply"),
    ("builtins", "open"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("importlib", "import_module"),
    ("pickle", "loads"),
    ("numpy", "load"),
    ("numpy", "fromfile"),
    ("numpy.core.multiarray", "frombuffer"),
    ("numpy.testing._private.utils", "runstring"),
    ("numpy", "ndarray.tofile"),
    ("numpy._core.multiarray", "_reconstruct.__globals__"),
    ("torch", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("msa_models.data.containers", "read"),
    ("collections", "OrderedDict.__init__"),
    ("builtins", "dict.__class__"),
    ("", ""),
]


def named(module: str, name: str, protocol: int) -> bytes:
    """The opcodes that push what is called `module.name`."""
    if protocol < 4:
        return f"c{module}\n{name}\n".encode()
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"


@few
@given(
    name=st.sampled_from(NAMES),
    protocol=st.sampled_from([0, 2, 4]),
    argument=scalars | st.just("open('/tmp/harm', 'w')"),
    call=st.sampled_from([b"R", b"\x81", b"b", b"\x92"]),
    place=st.sampled_from(["alone", "a value", "a key", "within an array", "state"]),
)
@example(name=("os", "system"), protocol=4, argument="true", call=b"R", place="alone")
def test_whatever_a_pickle_calls_is_not_run(
    name: tuple[str, str], protocol: int, argument: Any, call: bytes, place: str
) -> None:
    """The call is put by hand where an honest pickle has a marker, as most of these names do not pickle."""
    marker = "the place of the call"
    raw: Any = build_mmsa()
    match place:
        case "alone":
            raw = marker
        case "a value":
            raw["train"]["extra"] = marker
        case "a key":
            raw["train"][marker] = 1
        case "within an array":
            raw["test"]["id"][0] = marker
        case "state":
            raw["train"]["text"] = [np.zeros(2), marker]
    whole = pickle.dumps(raw, 2)
    pushed = b"X" + len(marker).to_bytes(4, "little") + marker.encode()
    assert pushed in whole
    arguments = pickle.dumps((argument,), 2)[2:-1]
    program = whole.replace(pushed, named(*name, protocol) + arguments + (b"}" if call == b"\x92" else b"") + call)
    assert isinstance(outcome(program), CorpusError)


@few
@given(call=st.sampled_from([eval, exec, getattr, setattr, np.load, np.save, pickle.loads, Path, io.FileIO, type]))
def test_what_pickles_by_itself_as_a_call_is_not_run(call: Callable[..., Any]) -> None:
    raw = build_mmsa()
    raw["valid"]["vision"] = Calls(call, ("/tmp/harm",))
    assert isinstance(outcome(pickle.dumps(raw)), CorpusError)


@pytest.mark.parametrize("shape", [(12,), (10**9,), (2**40,), (12, 5, 4)])
def test_an_array_of_more_elements_than_its_bytes_hold_is_refused(shape: tuple[int, ...]) -> None:
    raw = build_mmsa()
    raw["train"]["text"] = np.zeros((0, 3), np.float32)
    hollow = pickle.dumps(raw, 2)
    honest = pickle.dumps((0, 3), 2)[2:-1].partition(b"q")[0]
    assert hollow.count(honest) == 1
    program = hollow.replace(honest, pickle.dumps(shape, 2)[2:-1].partition(b"q")[0])
    assert isinstance(outcome(program), CorpusError)


def test_the_hook_hears_what_a_call_would_do() -> None:
    with pytest.raises(AssertionError, match="find_class"), watched():
        pickle.loads(pickle.dumps(Calls(eval, ("1 + 1",))))
