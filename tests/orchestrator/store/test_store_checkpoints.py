"""Checkpoints prove that they are whole; one that does not is set aside, and the one before is used."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import fs

from orchestrator.run.trial_runner import TrialRunner
from orchestrator.store import Files, Store, checkpoints
from tests.orchestrator.run import fakes

TRIAL = "t"


@pytest.fixture(params=["local", "remote"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "local":
        return Files.at(tmp_path / "root")
    filesystem = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    return Files(filesystem=filesystem, root="bucket", uri="far://bucket")


def two(files: Files) -> list[str]:
    """Two checkpoints, and their names."""
    checkpoints.write(files, TRIAL, 3, b"the one before")
    checkpoints.write(files, TRIAL, 9, b"the newest")
    return files.names("running/t")


def test_the_name_carries_the_crc_32_of_the_content(files: Files) -> None:
    expected = [(3, b"the one before"), (9, b"the newest")]
    assert two(files) == [f"epoch-{epoch:06d}-{zlib.crc32(data):08x}.safetensors" for epoch, data in expected]


def test_the_name_carries_the_time_that_the_trial_has_trained(files: Files) -> None:
    two(files)
    checkpoints.write(files, TRIAL, 12, b"timed", 7_384.5)
    assert files.names("running/t")[-1] == f"epoch-000012-{zlib.crc32(b'timed'):08x}-7384500ms.safetensors"
    assert list(checkpoints.read(files, TRIAL)) == [b"timed", b"the newest"]
    assert [checkpoints.busy_s(files, TRIAL, data) for data in (b"timed", b"the newest", b"?")] == [7_384.5, 0.0, 0.0]


def flipped(data: bytes) -> bytes:
    return data[:4] + bytes([data[4] ^ 1]) + data[5:]


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], flipped, lambda data: b"", lambda data: data + b"\0"],
    ids=["truncated", "flipped", "empty", "longer"],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
    files: Files, damage: Callable[[bytes], bytes]
) -> None:
    before, newest = two(files)
    files.write(f"running/t/{newest}", damage(b"the newest"))
    assert list(checkpoints.read(files, TRIAL)) == [b"the one before"]
    assert files.names("running/t") == [before, f"{newest}.damaged"]
    assert files.read(f"running/t/{newest}.damaged") == damage(b"the newest")
    assert checkpoints.epochs(files, TRIAL) == [3]
    checkpoints.write(files, TRIAL, 9, b"the newest")
    assert list(checkpoints.read(files, TRIAL)) == [b"the newest", b"the one before"]


def test_files_with_other_names_are_neither_read_nor_removed(files: Files) -> None:
    strangers = ["epoch-000003.safetensors", "epoch-3-00000000.safetensors", "epoch-x-00000000.safetensors", "notes"]
    for name in strangers:
        files.write(f"running/t/{name}", b"")
    two(files)
    assert list(checkpoints.read(files, TRIAL)) == [b"the newest", b"the one before"]
    assert checkpoints.epochs(files, TRIAL) == [3, 9]
    assert set(strangers) < set(files.names("running/t"))


def test_a_checkpoint_that_is_written_again_with_other_content_replaces_the_first(files: Files) -> None:
    two(files)
    checkpoints.write(files, TRIAL, 9, b"another")
    assert list(checkpoints.read(files, TRIAL)) == [b"another", b"the one before"]


def test_two_of_the_same_epoch_are_kept_and_the_one_that_was_trained_longer_comes_first(files: Files) -> None:
    for busy_s, data in ((1.0, b"one"), (10.0, b"ten"), (5.0, b"five")):
        checkpoints.write(files, TRIAL, 3, data, busy_s)
    assert list(checkpoints.read(files, TRIAL)) == [b"five", b"one"]
    checkpoints.write(files, TRIAL, 3, b"twenty", 20.0)
    assert list(checkpoints.read(files, TRIAL)) == [b"twenty", b"five"]
    assert checkpoints.progress(files.names("running/t")) == (3, 20.0)


def test_a_worker_that_was_left_behind_takes_nothing_from_the_one_that_went_on(files: Files) -> None:
    for epoch in (7, 8, 3):
        checkpoints.write(files, TRIAL, epoch, b"%d" % epoch)
    assert list(checkpoints.read(files, TRIAL)) == [b"8", b"7", b"3"]


def test_two_damaged_checkpoints_leave_nothing_to_go_on_from(files: Files) -> None:
    for name in two(files):
        files.write(f"running/t/{name}", b"")
    assert list(checkpoints.read(files, TRIAL)) == []
    assert checkpoints.epochs(files, TRIAL) == []


def test_a_whole_checkpoint_that_the_trial_refuses_is_set_aside_too(tmp_path: Path) -> None:
    planned = fakes.studies()
    store = Store.create(tmp_path, fakes.record(planned))
    campaign = fakes.Campaign(store, planned, fakes.PROVENANCE)
    assignment = campaign.next()
    assert assignment is not None
    store.checkpoint_write(assignment.trial_id, 1, b'[{"epoch": 1, "valid/mae": 0.5}]')
    store.checkpoint_write(assignment.trial_id, 2, b"whole, but not JSON")
    report = TrialRunner(assignment, fakes.corpus(), store, fakes.toy).stretch()
    assert [row["epoch"] for row in report.measurements] == [1]  # a rung, at which the driver decides first
    assert store.checkpoint_epochs(assignment.trial_id) == [1]
    names = store.files.names(f"running/{assignment.trial_id}")
    assert [name[:12] for name in names if name.endswith(".damaged")] == ["epoch-000002"]


def test_what_was_set_aside_goes_with_the_folder_of_its_trial(files: Files) -> None:
    _, newest = two(files)
    checkpoints.set_aside(files, TRIAL, b"the newest")
    assert f"{newest}.damaged" in files.names("running/t")
    files.delete(checkpoints.folder(TRIAL))
    assert files.names("running/t") == []
