"""The cache of encoded texts: whoever is killed, whatever is damaged, a text that was encoded is not encoded again."""

from __future__ import annotations

import errno
import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.store import Files, StorageError, encodings
from orchestrator.store.encodings import Encodings, text_hash

USE = {"encoder": "0123456789abcdef", "pooling": "tokens", "max_length": 64, "dtype": "float32"}


def encoded(numbers: range) -> tuple[list[bytes], list[np.ndarray]]:
    """Texts and what stands for their features: as many tokens as the number says, each a value of it."""
    hashes = [text_hash(f"text {number}") for number in numbers]
    return hashes, [np.full((1 + number % 5, 3), number, np.float32) for number in numbers]


@pytest.fixture
def cache(tmp_path: Path) -> Encodings:
    return Encodings.beside(Files.at(tmp_path / "runs" / "mosi"), USE)


def chunks(cache: Encodings, pattern: str = "chunk-*.arrow") -> list[Path]:
    return sorted(Path(cache.files.root).glob(pattern))


def assert_there(cache: Encodings, numbers: range) -> None:
    hashes, features = encoded(numbers)
    found = cache.load(hashes)
    assert found.keys() == set(hashes)
    for each, expected in zip(hashes, features, strict=True):
        np.testing.assert_array_equal(found[each], expected)


def test_it_lies_beside_the_storage_in_a_folder_for_each_use(cache: Encodings, tmp_path: Path) -> None:
    cache.add(*encoded(range(3)))
    (folder,) = (tmp_path / "runs" / "encodings").iterdir()
    assert str(folder) == cache.files.root == cache.files.uri
    neighbour = Encodings.beside(Files.at(tmp_path / "runs" / "another"), USE)
    assert_there(neighbour, range(3))
    for changed in ({"encoder": "f" * 16}, {"pooling": "mean"}, {"max_length": 32}, {"dtype": "bfloat16"}):
        other = Encodings.beside(Files.at(tmp_path / "runs" / "mosi"), USE | changed)
        assert other.files.root != cache.files.root
        assert other.load(encoded(range(3))[0]) == {}


@pytest.mark.parametrize(
    ("root", "uri", "expected_root", "expected_uri"),
    [
        ("bucket/prefix/mosi", "s3://bucket/prefix/mosi", "bucket/prefix/encodings/", "s3://bucket/prefix/encodings/"),
        ("bucket/mosi", "s3://bucket/mosi?region=eu", "bucket/encodings/", "s3://bucket/encodings/"),
        ("bucket", "s3://bucket", "bucket/encodings/", "s3://bucket/encodings/"),
    ],
)
def test_a_storage_that_is_a_whole_bucket_has_it_inside(
    root: str, uri: str, expected_root: str, expected_uri: str
) -> None:
    files = Encodings.beside(Files(filesystem=None, root=root, uri=uri), USE).files  # pyright: ignore[reportArgumentType]
    assert files.root.startswith(expected_root)
    assert files.uri.startswith(expected_uri)
    assert files.root.removeprefix(expected_root) == files.uri.removeprefix(expected_uri)


def test_what_was_added_is_there_and_nothing_else(cache: Encodings) -> None:
    assert cache.load(encoded(range(3))[0]) == {}
    cache.add(*encoded(range(4)))
    cache.add(*encoded(range(4, 9)))
    assert_there(cache, range(9))
    assert_there(cache, range(2, 6))
    assert cache.load(encoded(range(7, 20))[0]).keys() == set(encoded(range(7, 9))[0])


def test_vectors_stay_vectors(cache: Encodings) -> None:
    hashes = encoded(range(3))[0]
    cache.add(hashes, [np.full(7, number, np.float32) for number in range(3)])
    assert [cache.load(hashes)[each].tolist() for each in hashes] == [[0.0] * 7, [1.0] * 7, [2.0] * 7]


def test_features_are_mapped_into_memory_and_not_copied(cache: Encodings) -> None:
    hashes = encoded(range(2))[0]
    cache.add(hashes, [np.ones((64, 1024), np.float32)] * 2)
    before = pa.total_allocated_bytes()
    found = cache.load(hashes)
    assert pa.total_allocated_bytes() - before < 64 * 1024 * 4
    assert all(not each.flags.writeable and each.shape == (64, 1024) for each in found.values())


@pytest.mark.parametrize("position", ["first", "middle", "end"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_a_damaged_chunk_is_set_aside_and_its_texts_are_missing_again(
    cache: Encodings, damage: str, position: str
) -> None:
    cache.add(*encoded(range(4)))
    (chunk,) = chunks(cache)
    content = bytearray(chunk.read_bytes())
    at = {"first": 3, "middle": len(content) // 2, "end": len(content) - 3}[position]
    content[at] ^= 0x40
    chunk.write_bytes({"flipped": bytes(content), "cut": bytes(content[:at]), "emptied": b""}[damage])
    cache.add(*encoded(range(4, 6)))
    assert cache.load(encoded(range(6))[0]).keys() == set(encoded(range(4, 6))[0])
    assert not chunk.exists()
    assert [each.name for each in chunks(cache, "*.damaged")] == [f"{chunk.name}.damaged"]
    cache.add(*encoded(range(4)))
    assert_there(cache, range(6))


@pytest.mark.slow
def test_every_single_flipped_byte_is_noticed_or_does_no_harm(cache: Encodings) -> None:
    hashes, features = encoded(range(2))
    cache.add(hashes, features)
    (chunk,) = chunks(cache)
    content = chunk.read_bytes()
    for at in range(len(content)):
        chunk.write_bytes(content[:at] + bytes([content[at] ^ 0x5A]) + content[at + 1 :])
        for text, found in cache.load(hashes).items():
            np.testing.assert_array_equal(found, features[hashes.index(text)])
        for aside in chunks(cache, "*.damaged"):
            aside.unlink()


def test_files_of_others_in_its_folder_are_left_alone(cache: Encodings) -> None:
    cache.add(*encoded(range(2)))
    folder = Path(cache.files.root)
    foreign = {
        "notes.txt": b"mine",
        "chunk-1.arrow": b"not one of ours",
        "chunk-00000000-0123456789abcdef0123456789abcdef.parquet": b"nor this",
    }
    for name, content in foreign.items():
        (folder / name).write_bytes(content)
    assert_there(cache, range(2))
    assert {name: (folder / name).read_bytes() for name in foreign} == foreign


def test_a_folder_of_the_user_with_the_same_name_is_no_cache_and_stays_as_it_is(
    cache: Encodings, tmp_path: Path
) -> None:
    mine = tmp_path / "runs" / "encodings"
    mine.mkdir(parents=True)
    (mine / "latin1.txt").write_text("codecs")
    assert cache.load(encoded(range(2))[0]) == {}
    cache.add(*encoded(range(2)))
    assert (mine / "latin1.txt").read_text() == "codecs"


def test_a_file_in_the_place_of_its_folder_is_one_line_that_says_where_it_writes(
    cache: Encodings, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "encodings").write_text("a file")
    with pytest.raises(
        StorageError, match=r"encoded texts are kept beside the storage, in .*/runs/encodings/"
    ) as caught:
        cache.add(*encoded(range(2)))
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_what_was_written_before_stays(
    cache: Encodings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.add(*encoded(range(2)))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("orchestrator.store.files.open_new", full)
    with pytest.raises(StorageError, match="No space left on device; free some space there, then resume") as caught:
        list(cache.keep([encoded(range(2, 4))]))
    assert "\n" not in str(caught.value)
    assert_there(cache, range(2))


def batches(stop: int, size: int = 4) -> Iterator[tuple[list[bytes], list[np.ndarray]]]:
    return (encoded(range(start, start + size)) for start in range(0, stop, size))


def test_what_is_encoded_is_kept_in_few_chunks(cache: Encodings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(cache.keep(batches(40))) == [4] * 10
    assert len(chunks(cache)) == 1
    assert_there(cache, range(40))


@pytest.mark.parametrize("name", ["CHUNK_BYTES", "CHUNK_S"])
def test_a_chunk_is_written_when_it_is_large_enough_or_old_enough(
    cache: Encodings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(encodings, name, 0)
    for number, _ in enumerate(cache.keep(batches(12)), start=1):
        assert len(chunks(cache)) == number
    assert_there(cache, range(12))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_is_in_hand_when_encoding_is_interrupted_is_kept(cache: Encodings, error: type[BaseException]) -> None:
    def interrupted() -> Iterator[tuple[list[bytes], list[np.ndarray]]]:
        yield from batches(8)
        raise error

    with pytest.raises(error):
        list(cache.keep(interrupted()))
    assert_there(cache, range(8))


def test_two_drivers_at_once_do_each_other_no_harm(cache: Encodings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "CHUNK_BYTES", 0)
    drivers = [threading.Thread(target=lambda: list(cache.keep(batches(80)))) for _ in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert len(chunks(cache)) == 40
    assert_there(cache, range(80))


WRITER = """
import itertools, sys
from orchestrator.store import Files, encodings
from tests.orchestrator.store.test_store_encodings import USE, encoded
encodings.CHUNK_BYTES = 0
batches = (encoded(range(start, start + 4)) for start in itertools.count(0, 4))
for number in encodings.Encodings.beside(Files.at(sys.argv[1]), USE).keep(batches):
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("num_seen", [1, 5, 12])
def test_a_killed_writer_leaves_only_whole_chunks(cache: Encodings, tmp_path: Path, num_seen: int) -> None:
    storage = str(tmp_path / "runs" / "mosi")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, storage], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout:
        for _ in itertools.repeat(None, num_seen):
            assert writer.stdout.readline() == "4\n"
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    num_kept = 4 * len(chunks(cache))
    assert num_kept >= 4 * num_seen
    assert_there(cache, range(num_kept))
    assert chunks(cache, "*.damaged") == []
