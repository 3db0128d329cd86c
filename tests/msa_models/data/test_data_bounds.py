"""Corpus files that ask for more memory than they explain, never end, or have keys that can be taken for each other."""

from __future__ import annotations

import os
import pickle
import resource
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msa_models.data import CorpusError, bounds, load
from msa_models.data.bounds import LIMIT, at_most
from msa_models.data.containers import read
from tests.msa_models.data.conftest import build_mmsa


def refusal(path: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        load(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


def member(array: np.ndarray) -> bytes:
    sink = BytesIO()
    np.lib.format.write_array(sink, array)
    return sink.getvalue()


def archive(path: Path, members: dict[str, bytes], declared: dict[str, int] | None = None) -> Path:
    """A zip file whose directory may say another size than its members inflate to."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
        for name, size in (declared or {}).items():
            made.getinfo(name).file_size = size
    return path


def test_an_archive_that_inflates_to_more_than_there_is_memory_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = member(np.zeros((1000, 1000), np.float32))
    path = archive(tmp_path / "x.npz", {f"{split}/text.npy": zeros for split in ("train", "valid", "test")})
    assert path.stat().st_size < 100_000
    monkeypatch.setenv(LIMIT, "0.01")
    assert f"its arrays take 0.01 GB, expected at most 0.01 (as {LIMIT} says)" in refusal(path)
    assert f"raise the limit: {LIMIT}=1" in refusal(path)
    monkeypatch.setenv(LIMIT, "0.02")
    assert set(read(path)) == {"train", "valid", "test"}


def test_the_size_that_an_archive_declares_is_the_most_that_is_inflated(tmp_path: Path) -> None:
    bomb = member(np.zeros(10**7, np.uint8))
    for declared in (100, len(bomb) - 1):
        path = archive(tmp_path / f"{declared}.npz", {"train/text.npy": bomb}, {"train/text.npy": declared})
        assert "cut short, damaged, or no .npz file" in refusal(path)


def test_the_declared_sizes_are_summed_so_that_members_that_overlap_count_each(tmp_path: Path) -> None:
    names = {f"train/{index}.npy": member(np.zeros(1)) for index in range(100)}
    path = archive(tmp_path / "x.npz", names, dict.fromkeys(names, 2**40))
    assert "its arrays take 109,951.16 GB" in refusal(path)


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6)])
def test_an_array_whose_header_claims_more_than_it_has_is_one_line(shape: tuple[int, ...], tmp_path: Path) -> None:
    sink = BytesIO()
    np.lib.format.write_array_header_1_0(sink, {"descr": "<f8", "fortran_order": False, "shape": shape})
    line = refusal(archive(tmp_path / "x.npz", {"train/text.npy": sink.getvalue() + bytes(24)}))
    assert "reading it takes far more memory than its" in line


def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as made:
        warnings.simplefilter("ignore")
        for number in range(2):
            made.writestr("train/text.npy", member(np.full(3, number)))
    assert "its array 'train/text' is there 2 times; save it once" in refusal(path)


BOMBS = {
    "a note of what was read at a far place": b"\x80\x02Nr" + (2**28).to_bytes(4, "little") + b".",
    "an array of bytes that is not there": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"abc.",
    "text that is not there": b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"abc.",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_few_bytes_of_a_pickle_that_ask_for_gigabytes_are_refused(bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(BOMBS[bomb])
    before = resource.getrlimit(resource.RLIMIT_AS)
    line = refusal(path)
    assert "memory" in line or "cut short" in line
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_lists_that_hold_each_other_too_often_are_not_written_out(tmp_path: Path) -> None:
    raw: dict[str, Any] = build_mmsa()
    nested: Any = [0.0] * 10
    for _ in range(12):
        nested = [nested] * 10
    raw["train"]["regression_labels"] = nested
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(raw))
    assert "its lists hold each other so often that they come to" in refusal(path)


def test_more_memory_than_is_asked_for_is_an_error_and_the_limit_is_gone_behind_it() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), at_most(0):
        np.zeros(3 << 30, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    with at_most(2 << 30):
        np.empty(3 << 30, np.uint8)


def test_a_file_of_more_than_there_is_memory_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    with path.open("wb") as file:
        file.truncate(2**42)
    line = refusal(path)
    assert "its bytes take 4,398.05 GB" in line
    assert f"{LIMIT}=4399" in line


@pytest.mark.parametrize("asked", ["", "many", "-1", "nan"])
def test_a_limit_that_is_no_number_is_one_line(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({}))
    monkeypatch.setenv(LIMIT, asked)
    assert f"got {LIMIT}={asked}, expected how many GB a corpus may take, such as 64" in refusal(path)


ENDLESS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_may_never_end_is_not_read_as_a_file_nor_in_a_folder(kind: str, tmp_path: Path) -> None:
    ENDLESS[kind](tmp_path / "train.pkl")
    for path in (tmp_path / "train.pkl", tmp_path):
        assert "neither a file nor a folder" in refusal(path) or "it is a link to train.pkl" in refusal(path)


PAIRS = [("text", "Text"), ("text", "text "), (b"text", "text"), ("\u00e9", "e\u0301"), ("1", 1), ("\uff54ext", "text")]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_keys_that_can_be_taken_for_each_other_are_named(one: Any, other: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    raw: dict[Any, Any] = build_mmsa()
    raw["valid"] |= {one: [1], other: [2]}
    path.write_bytes(pickle.dumps(raw))
    assert "the keys of its valid split" in refusal(path)
    assert "can be taken for each other; remove or rename one of them" in refusal(path)


def test_splits_that_can_be_taken_for_each_other_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    raw: dict[Any, Any] = build_mmsa()
    path.write_bytes(pickle.dumps(raw | {"Train": raw["train"]}))
    assert "its splits 'train' and 'Train' can be taken for each other" in refusal(path)


def test_a_pickle_that_does_not_fit_into_what_is_free_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(bytes(10**6))
    monkeypatch.setattr(bounds, "free_bytes", lambda: 0.9e6)
    monkeypatch.setattr(bounds, "_GB", 1e6)
    line = refusal(path)
    assert "it is a pickle of 1.00 GB, which takes about 1.25 GB of memory, and 0.90 GB are free" in line
    assert "msa data convert" in line
    monkeypatch.setenv(LIMIT, "3")
    assert "damaged" in refusal(path), "who knows better may try"


def test_the_limit_of_a_control_group_is_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tmp_path / "job"
    job.mkdir()
    for name, text in (("max", "1000"), ("current", "900"), ("stat", "anon 5\ninactive_file 300\n")):
        (job / f"memory.{name}").write_text(text)
    (tmp_path / "memory.max").write_text("max")
    (tmp_path / "cgroup").write_text("0::/job\n")
    monkeypatch.setattr(bounds, "_CGROUPS", tmp_path)
    assert (bounds.free_bytes() or 0) > 1000
    monkeypatch.setattr(bounds, "_PROC_CGROUP", tmp_path / "cgroup")
    assert bounds.free_bytes() == 400
