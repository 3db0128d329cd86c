"""Corpus files: what every pickle protocol writes is read, what a hostile one asks for is not run."""

import io
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msa_models.data import CorpusError, load
from msa_models.data.containers import read


def splits(content: object) -> dict[str, object]:
    return {"train": {"x": content}, "valid": {"x": content}, "test": {"x": content}}


PLAIN = {
    "float32 array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "column-major array": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian array": np.arange(3, dtype=">f4"),
    "boolean array": np.array([True, False]),
    "fixed-width text": np.array(["a", "longer"]),
    "bytes array": np.array([b"a", b"bc"]),
    "object array of text": np.array(["a", "ü"], dtype=object),
    "object array of NumPy text": np.array([np.str_("a"), np.str_("b")], dtype=object),
    "empty array": np.zeros((0, 4), np.float32),
    "array without dimensions": np.array(3.0),
    "scalar": np.float32(1.5),
    "integer scalar": np.int64(-4),
    "text scalar": np.str_("é"),
    "list of arrays": [np.ones(2), np.zeros(3)],
    "arrays within containers": {"a": ([np.ones(2)], {"b": (np.zeros(1), "c")})},
    "object array of arrays": np.array([np.ones(2), np.zeros(3)], dtype=object),
    "object array of two dimensions": np.array([["a", 1], [None, (2,)]], dtype=object),
    "empty text": np.array(["", ""]),
    "empty text scalar": np.str_(""),
    "bytes": b"\x00\xff",
    "empty bytes": b"",
    "containers": {"a": (1, 2.5, None, True), "b": {1, 2}, "c": frozenset({3}), "d": bytearray(b"x"), "e": 1j},
    "ordered dictionary": OrderedDict(a=1),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", PLAIN)
def test_plain_data_survives_every_pickle_protocol(kind: str, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps(splits(PLAIN[kind]), protocol))
    found, expected = read(path)["train"]["x"], PLAIN[kind]
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")  # NumPy itself may swap the bytes
        assert found.shape == expected.shape
        found, expected = found.tolist(), expected.tolist()
    np.testing.assert_equal(found, expected)


@pytest.mark.parametrize(("old", "new"), [(b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")])
def test_both_module_names_that_numpy_has_had_are_known(old: bytes, new: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    text = pickle.dumps(
        splits([np.arange(3.0), np.float32(2)]), protocol=0
    )  # names end at a newline: lengths may change
    path.write_bytes(text.replace(old, new))
    np.testing.assert_equal(read(path)["valid"]["x"], [np.arange(3.0), np.float32(2)])


def test_dtypes_of_old_numpy_versions_do_not_warn(tmp_path: Path) -> None:
    # They give `align` and `copy` as the integers 0 and 1, at which newer NumPy warns; here warnings are errors.
    path = tmp_path / "x.pkl"
    content = pickle.dumps(splits(np.arange(3.0)), protocol=2)
    old = content.replace(b"\x89\x88\x87", b"K\x00K\x01\x87")  # False True TUPLE3 -> 0 1 TUPLE3
    assert old != content
    path.write_bytes(old)
    np.testing.assert_equal(read(path)["train"]["x"], np.arange(3.0))


def test_arrays_pickled_by_python_2_are_read_byte_by_byte(tmp_path: Path) -> None:
    values = np.array([1.5, -2.25, 3e-8], "<f8")  # has bytes beyond ASCII
    raw = values.tobytes()
    assert max(raw) > 127
    array = python_2_array(b"f8", raw)
    one = b"}(" + short_string(b"x") + array + short_string(b"id") + short_string(b"clip") + b"u"
    names = (b"train", b"valid", b"test")
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02}(" + b"".join(short_string(name) + one for name in names) + b"u.")
    found = read(path)["test"]
    np.testing.assert_array_equal(found["x"], values)
    assert found["id"] == "clip"


def short_string(text: bytes) -> bytes:
    return b"U" + struct.pack("<B", len(text)) + text


def python_2_array(kind: bytes, raw: bytes) -> bytes:
    """Three elements as Python 2 pickles them: bytes and text as 8-bit strings, which Python 3 has no way to write."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + short_string(b"b") + b"tR"
        b"(K\x01(K\x03tcnumpy\ndtype\n(" + short_string(kind) + b"K\x00K\x01tR"
        b"(K\x03" + short_string(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + short_string(raw) + b"tb"
    )


def test_bytes_that_pose_as_objects_are_not_followed_as_pointers(tmp_path: Path) -> None:
    # The type's state claims that it holds no references, at which NumPy's __setstate__ takes the bytes for objects.
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02" + python_2_array(b"O8", bytes(range(24))) + b".")
    with pytest.raises(CorpusError, match="damaged"):
        read(path)


@pytest.mark.parametrize("values", [np.zeros(2, [("a", "f4")]), np.zeros(2, "V8"), np.zeros(2, "M8[s]")])
def test_arrays_of_anything_but_numbers_and_text_are_refused(values: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(splits(values)))
    with pytest.raises(CorpusError, match=r"its pickle holds an array of type '[VM]"):
        read(path)


def test_containers_that_hold_each_other_many_times_are_walked_once(tmp_path: Path) -> None:
    nested: list = [np.ones(2)]
    for _ in range(20):
        nested = [nested, nested]
    nested.append(nested)
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(splits(nested)))
    found = read(path)["train"]["x"]
    assert found[2] is found
    assert found[0] is found[1]


def test_a_large_array_is_held_once_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    large = np.random.default_rng(0).normal(size=(4, 1000, 1000)).astype(np.float32)
    path.write_bytes(pickle.dumps({"train": {"x": large}, "valid": {}, "test": {}}))
    tracemalloc.start()
    try:
        found = read(path)["train"]["x"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, large)
    assert peak < 1.2 * large.nbytes


class Reduces:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def hostile(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would create a file, and the name that each must be refused for."""
    write = f"open({str(marker)!r}, 'w').close()"
    shell = f"touch {marker}"
    system = f"{os.system.__module__}.system"
    array = np.arange(3.0)
    values = {
        "a call": (Reduces(os.system, shell), system),
        "eval": (Reduces(eval, write), "builtins.eval"),
        "exec": (Reduces(exec, write), "builtins.exec"),
        "getattr": (Reduces(getattr, array, "tofile"), "builtins.getattr"),
        "open": (Reduces(open, str(marker), "w"), "open"),
        "a call within an array": (np.array(["a", Reduces(os.system, shell)], dtype=object), system),
        "a call within arguments": (Reduces(dict, Reduces(eval, write)), "builtins.eval"),
        "a NumPy function that writes files": (Reduces(np.savetxt, str(marker), array), "numpy.*savetxt"),
        "a NumPy function that unpickles": (Reduces(np.load, str(marker), None, True), "numpy.*load"),
    }
    made = {}
    for name, (content, refused) in values.items():
        for protocol in (0, 2, 4):
            made[f"{name}, protocol {protocol}"] = pickle.dumps(splits(content), protocol), refused
    text = write.encode()
    made["the INST opcode"] = b"(S'" + shell.encode() + b"'\nios\nsystem\n.", r"os\.system"
    made["a dotted name"] = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", r"numpy\.ndarray\.tofile"
    made["Python 2's name of eval"] = b"c__builtin__\neval\n(V" + text + b"\ntR.", r"__builtin__\.eval"
    made["an unusual codec"] = b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", "rot13"
    return made


@pytest.mark.parametrize("name", hostile(Path("unused")))
def test_a_hostile_pickle_runs_nothing_and_the_error_names_what_it_asked_for(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content, refused = hostile(marker)[name]
    path = tmp_path / "hostile.pkl"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=refused.replace("builtins", "(builtins|__builtin__)")) as caught:
        load(str(path))
    assert not marker.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in hostile(Path("unused")) if name.startswith(("a call", "eval"))])
def test_the_hostile_pickles_would_have_done_harm(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(hostile(marker)[name][0]) if "arguments" not in name else run_all(hostile(marker)[name][0])
    assert marker.exists()


def run_all(content: bytes) -> None:
    """The innermost call runs although the outer one then fails."""
    with pytest.raises(TypeError):
        pickle.loads(content)


def test_a_pickle_cannot_change_how_the_next_one_is_read(tmp_path: Path) -> None:
    # BUILD sets attributes of what a name resolved to: here, default arguments of the functions that rebuild arrays.
    for module, function in (("numpy", "dtype"), ("_codecs", "encode"), ("numpy.core.numeric", "_frombuffer")):
        meddling = io.BytesIO()
        meddling.write(f"c{module}\n{function}\n".encode() + b"(N}(V__defaults__\n(I1\ntV__kwdefaults__\nNutb.")
        path = tmp_path / "meddling.pkl"
        path.write_bytes(meddling.getvalue())
        with pytest.raises(CorpusError):
            read(path)
    path = tmp_path / "good.pkl"
    for protocol in (2, 5):
        path.write_bytes(pickle.dumps(splits(np.arange(3.0)), protocol))
        np.testing.assert_equal(read(path)["train"]["x"], np.arange(3.0))


@pytest.mark.parametrize("name", ["dev", "val", "valid"])
def test_the_validation_split_may_have_any_of_its_usual_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"train": {"x": 1}, name: {"x": 2}, "test": {"x": 3}, "trash": None}))
    assert read(path) == {"train": {"x": 1}, "valid": {"x": 2}, "test": {"x": 3}}


def test_an_npz_archive_holds_splits_and_keys_in_its_names(tmp_path: Path) -> None:
    arrays = {f"{split}/{key}": np.arange(4.0) + len(split) for split in ("train", "dev", "test") for key in ("x", "y")}
    np.savez(tmp_path / "x.npz", allow_pickle=False, **arrays)
    found = read(tmp_path / "x.npz")
    assert {split: set(content) for split, content in found.items()} == {
        s: {"x", "y"} for s in ("train", "valid", "test")
    }
    np.testing.assert_array_equal(found["valid"]["y"], arrays["dev/y"])


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "nothing there": ("x.pkl", lambda path: None, "there is no such file"),
    "a folder": ("x.pkl", lambda path: path.mkdir(), "it is a folder without train.pkl; give one file"),
    "an unknown suffix": (
        "x.csv",
        lambda path: path.write_text("a,b"),
        r"ends in '\.csv'; expected \.pkl, \.pickle, \.npz",
    ),
    "an empty file": ("x.pkl", lambda path: path.write_bytes(b""), "cut short, damaged, or no .pkl file"),
    "a truncated pickle": (
        "x.pkl",
        lambda path: path.write_bytes(pickle.dumps(splits(np.arange(99.0)))[:300]),
        "cut short, damaged, or no .pkl file",
    ),
    "text in a pickle's place": ("x.pkl", lambda path: path.write_text("hello"), "cut short, damaged, or no .pkl file"),
    "a list": ("x.pkl", lambda path: path.write_bytes(pickle.dumps([1])), "holds a list; expected a dictionary"),
    "no valid split": (
        "x.pkl",
        lambda path: path.write_bytes(pickle.dumps({"train": {}, "test": {}})),
        "valid split: there is no such split; expected valid or dev or val, found train, test",
    ),
    "two valid splits": (
        "x.pkl",
        lambda path: path.write_bytes(pickle.dumps({"train": {}, "dev": {}, "val": {}, "test": {}})),
        "both dev and val, one too many",
    ),
    "a split that is an array": (
        "x.pkl",
        lambda path: path.write_bytes(pickle.dumps({"train": np.ones(3), "valid": {}, "test": {}})),
        "its train split is a ndarray; expected a dictionary",
    ),
    "an archive that is none": ("x.npz", lambda path: path.write_bytes(b"PK\x03\x04nonsense"), "no .npz file"),
    "a pickle called .npz": ("x.npz", lambda path: path.write_bytes(pickle.dumps({})), "no .npz file"),
    "an archive without splits": (
        "x.npz",
        lambda path: write_npz(path, {"text": np.ones(2)}),
        "'text' belongs to no split",
    ),
    "an archive of objects": (
        "x.npz",
        lambda path: write_npz(path, {"train/id": np.array(["a", None], dtype=object)}),
        "'train/id' holds Python objects; save numbers, or text as",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_used_is_answered_in_one_clear_line(fault: str, tmp_path: Path) -> None:
    name, write, message = FAULTS[fault]
    path = tmp_path / name
    write(path)
    with pytest.raises(CorpusError, match=message) as caught:
        load(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_every_truncation_of_a_pickle_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps(splits([np.arange(4.0), "text", b"bytes"]))
    path = tmp_path / "x.pkl"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CorpusError, match="cut short"):
            read(path)
