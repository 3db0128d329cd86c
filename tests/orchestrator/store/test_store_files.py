"""Files: whole or absent, on a folder and on a filesystem that is not one, with faults in one clear line."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow import fs

from orchestrator.store import AbsentFile, Files, StorageError


def remote_files(folder: Path) -> Files:
    """A filesystem that `Files` knows nothing of, with real files behind it: it takes the object store's way."""
    folder.mkdir(exist_ok=True)
    return Files(filesystem=fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()), root="bucket", uri="far://bucket")


@pytest.fixture(params=["local", "remote"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return Files.at(tmp_path / "root") if request.param == "local" else remote_files(tmp_path / "far")


def test_what_is_written_is_read_back_and_folders_appear_as_needed(files: Files) -> None:
    files.write("running/a/trial.json", b"one")
    files.write("running/a/trial.json", b"two")
    assert files.read("running/a/trial.json") == b"two"
    assert files.exists("running/a/trial.json")
    assert not files.exists("running/b")
    assert files.folders("running") == ["a"]
    assert files.names("running") == []
    assert files.names("running/a") == ["trial.json"]


def test_names_are_sorted_leave_out_dot_files_and_an_absent_folder_has_none(files: Files) -> None:
    for name in ("b", "a", ".a.tmp"):
        files.write(f"trials/{name}", b"")
    assert files.names("trials") == ["a", "b"]
    assert files.names("nowhere") == files.folders("nowhere") == []


def test_deleting_takes_files_and_whole_folders_and_what_is_absent_is_fine(files: Files) -> None:
    files.write("running/a/x", b"1")
    files.write("running/a/y", b"2")
    files.delete("running/a/x")
    assert files.names("running/a") == ["y"]
    files.delete("running/a")
    files.delete("running/a")
    assert not files.exists("running/a/y")


def test_reading_an_absent_file_names_it(files: Files) -> None:
    with pytest.raises(AbsentFile, match=f"cannot read {files.uri}/none: it does not exist"):
        files.read("none")


def test_create_writes_only_where_no_file_is(files: Files) -> None:
    assert files.create("lease.json", b"first")
    assert not files.create("lease.json", b"second")
    assert files.read("lease.json") == b"first"


@pytest.mark.slow
def test_of_many_that_create_the_same_local_file_exactly_one_succeeds(tmp_path: Path) -> None:
    files = Files.at(tmp_path)
    barrier = threading.Barrier(8)

    def create(index: int) -> bool:
        barrier.wait()
        return files.create("lease.json", str(index).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert sum(won) == 1
    assert files.read("lease.json") == str(won.index(True)).encode()
    assert os.listdir(tmp_path) == ["lease.json"]


def test_create_stays_exclusive_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: str) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert Files.at(tmp_path).create("a", b"first")
    assert not Files.at(tmp_path).create("a", b"second")
    assert Files.at(tmp_path).read("a") == b"first"


@pytest.mark.slow
def test_a_reader_sees_the_old_or_the_new_file_and_never_a_part_of_one(tmp_path: Path) -> None:
    files, size = Files.at(tmp_path), 200_000
    files.write("x", b"0" * size)
    stop = threading.Event()

    def overwrite() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            files.write("x", str(turn % 10).encode() * size)

    writer = threading.Thread(target=overwrite)
    writer.start()
    try:
        seen = [files.read("x") for _ in range(300)]
    finally:
        stop.set()
        writer.join()
    assert all(len(data) == size and len(set(data)) == 1 for data in seen)
    assert len({data[:1] for data in seen}) > 1


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left on device; free some space"),
        (errno.EACCES, "Permission denied; check who owns it"),
        (errno.EIO, "Input/output error; check that the storage can be reached"),
    ],
)
def test_a_failed_write_leaves_the_old_file_no_rest_and_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    files = Files.at(tmp_path)
    files.write("x", b"old")

    def fail(*_: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StorageError) as caught:
        files.write("x", b"new")
    assert str(caught.value).startswith(f"cannot write {tmp_path}/x: {words}")
    assert "\n" not in str(caught.value)
    assert files.read("x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_where_a_folder_is_needed_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    files = Files.at(tmp_path / "file")
    for act in (lambda: files.write("x", b""), lambda: files.create("x", b""), lambda: files.names()):
        with pytest.raises(StorageError, match=r"Not a directory|Cannot list directory.*|not a directory") as caught:
            act()
        assert "\n" not in str(caught.value)
        assert str(tmp_path / "file") in str(caught.value)


def test_new_files_have_the_mode_that_the_umask_asks_for_so_that_colleagues_can_read_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        Files.at(tmp_path).write("x", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hush@bucket/runs",
        "s3://AKIAhush@bucket/runs",
        "s3://AKIA:hu/hush@bucket/runs",
        "hdfs://user:hush@host:8020/runs",
        "s3://bucket/runs?secret_key=hush",
        "abfs://container@account.dfs.core.windows.net/runs?sv=1&sig=hush",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(StorageError, match="credentials in its URI") as caught:
        Files.at(uri)
    assert "hush" not in str(caught.value)


def test_an_azure_container_in_front_of_the_account_is_no_credential() -> None:
    files = Files.at("abfs://container@account.dfs.core.windows.net/runs")
    assert (files.root, files.local) == ("container/runs", False)


@pytest.mark.parametrize(
    ("uri", "words"), [("foo://bucket/x", "expected a folder or a URI"), ("  ", "empty"), ("s3://", "names no bucket")]
)
def test_what_is_no_storage_says_what_one_looks_like(uri: str, words: str) -> None:
    with pytest.raises(StorageError, match=words) as caught:
        Files.at(uri)
    assert "\n" not in str(caught.value)


def test_a_relative_path_means_the_same_folder_wherever_it_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Files.at("runs/x"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pickle.loads(data).write("a", b"1")
    assert (tmp_path / "runs" / "x" / "a").read_bytes() == b"1"


def test_a_file_uri_is_a_local_folder(tmp_path: Path) -> None:
    files = Files.at(f"file://{tmp_path}/runs/")
    files.write("a", b"1")
    assert files.local
    assert (tmp_path / "runs" / "a").read_bytes() == b"1"


def test_small_objects_go_to_s3_in_one_put() -> None:
    files = Files.at("s3://bucket/runs?region=us-east-1")
    assert files.root == "bucket/runs"
    assert files.filesystem == fs.S3FileSystem(region="us-east-1", allow_delayed_open=True)
    assert files.filesystem != fs.S3FileSystem(region="us-east-1")


def test_a_folder_that_appears_while_it_is_listed_is_listed(tmp_path: Path) -> None:
    class Late(fs.LocalFileSystem):
        """As pyarrow 26: no such folder, and by the time that it asks whether that may be, there is one."""

        def get_file_info(self, asked):
            if isinstance(asked, fs.FileSelector) and not (tmp_path / "s").exists():
                (tmp_path / "s").mkdir()
                (tmp_path / "s" / "a").touch()
                raise FileNotFoundError(errno.ENOENT, "Cannot list directory")
            return super().get_file_info(asked)

    files = Files(filesystem=Late(), root=str(tmp_path / "s"), uri=str(tmp_path / "s"))
    assert files.names() == ["a"]
