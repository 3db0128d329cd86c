"""Corpus files of any content: a corpus or a CorpusError of one line leaves, and nothing that a file asks for is run.

`tests/msa_models/data/hostile.py` says how that is noticed.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msa_models.data import Corpus, CorpusError, HoldOut
from tests.damage import Damage, damages
from tests.msa_models.data.conftest import build_mmsa, build_mult, build_sims, build_tuples
from tests.msa_models.data.hostile import few, many, outcome, scalars, things, watched


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
    return made + [
        (".pkl", pickle.dumps(raw, protocol)) for raw in (build_tuples(), build_sims()) for protocol in (2, 4)
    ]


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


@pytest.mark.slow
@few
@given(content=st.binary(max_size=80), suffix=st.sampled_from([".pkl", ".npz", ".pt", ".pth", ".joblib"]))
def test_any_bytes_are_one_clear_line(content: bytes, suffix: str) -> None:
    assert isinstance(outcome(content, suffix), CorpusError)


@pytest.mark.slow
@few
@given(operations=st.lists(st.sampled_from(OPCODES) | st.binary(max_size=4), max_size=30))
def test_any_program_of_pickle_opcodes_is_one_clear_line(operations: list[bytes]) -> None:
    assert isinstance(outcome(b"".join(operations) + b"."), CorpusError)


# what is whole but not what it should be

BASES: dict[str, Callable[[], Any]] = {
    "mmsa": build_mmsa,
    "sims": build_sims,
    "mult": build_mult,
    "iemocap": lambda: build_mult("iemocap"),
    "mosei": lambda: build_mult("mosei"),
    "tuples": build_tuples,
}
KEYS = sorted({*build_sims()["train"], *build_mult()["train"], "samples", "text_lengths", "audio_unpadded", "warnings"})

changes = st.tuples(
    st.sampled_from(["train", "valid", "test", "all"]), st.sampled_from(KEYS) | st.sampled_from(KEYS) | scalars, things
)
misplaced = st.tuples(st.sampled_from(["train", "dev", "test"]) | scalars, things)


@pytest.mark.slow
@many
@given(
    base=st.sampled_from(sorted(BASES)),
    changed=st.lists(changes, min_size=1, max_size=3),
    besides=st.lists(misplaced, max_size=1),
    protocol=st.integers(0, pickle.HIGHEST_PROTOCOL),
    task=st.sampled_from(["regression", "classification", "multilabel"]),
    target=st.sampled_from([None, None, "happy", "joy", "sentiment"]),
    valid=st.sampled_from([None, HoldOut(share=0.3)]),
    nonfinite=st.sampled_from(["refuse", "zero"]),
)
def test_any_content_is_a_corpus_or_one_clear_line(
    base: str, changed: list[tuple[str, Any, Any]], besides: list[tuple[Any, Any]], protocol: int, **asked: Any
) -> None:
    raw: dict[Any, Any] = BASES[base]()
    for split, key, value in changed:
        for each in raw if split == "all" else [split]:
            if isinstance(raw[each], dict):
                raw[each][key] = value
            else:
                raw[each][0] = value
    if asked["valid"]:
        del raw["valid"]
    outcome(pickle.dumps(raw | dict(besides), protocol), **asked)


@pytest.mark.slow
@few
@given(content=things)
def test_anything_in_the_place_of_a_corpus_is_one_clear_line(content: Any) -> None:
    assert isinstance(outcome(pickle.dumps(content)), CorpusError)


@pytest.mark.parametrize("label", [1e40, 3e8, 2.0**63, -1e9])
def test_a_label_that_can_be_no_class_is_one_clear_line(label: float) -> None:
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


@pytest.mark.slow
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
