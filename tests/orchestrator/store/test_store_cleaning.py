"""What nothing needs may go, what a resume needs goes only by name, and no result ever does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli import msa
from orchestrator.store import Lease, LeaseHeld, Store
from orchestrator.store.cleaning import KINDS, removable, remove

MakeRow = Callable[..., dict[str, Any]]


@pytest.fixture
def full(store: Store, make_row: MakeRow) -> Store:
    """A finished trial whose folder has stayed, a failed and an interrupted one, a model, a log, and rests."""
    for row in (make_row(0), make_row(1, state="FAIL")):
        store.begin({"trial_id": row["trial_id"], "attempts": 1})
        store.checkpoint_write(row["trial_id"], 3, b"three", 60.0)
        store.finish(row, [])
    done = make_row(0)["trial_id"]
    store.begin({"trial_id": done})
    store.checkpoint_write(done, 4, b"four")
    store.begin({"trial_id": "later"})
    for epoch in (4, 5):
        store.checkpoint_write("later", epoch, b"c" * epoch, 10.0 * epoch)
    store.files.write("running/later/epoch-000003-00000000.safetensors.damaged", b"d")
    store.files.write("trials/.x.parquet.0.tmp", b"half")
    store.files.write(f"models/{done}.safetensors", b"model")
    store.files.write("logs/a.log", b"log")
    return store


def by_kind(store: Store, **options: float) -> dict[str, Any]:
    return {each.kind: each for each in removable(store, **options)}


def results(store: Store) -> Any:
    return store.trials().to_pylist(), store.measurements().to_pylist(), store.running(clean=False)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(msa, arguments, standalone_mode=False)


def test_each_kind_is_told_with_its_size_and_what_would_be_trained_again(full: Store) -> None:
    found = by_kind(full)
    assert tuple(found) == KINDS
    assert len(found["checkpoints"].paths) == 4  # two of the finished trial, a damaged one, a half-written file
    failed, interrupted = found["failed"], found["interrupted"]
    assert (failed.num_trials, failed.epochs, failed.trained_s, failed.num_bytes) == (1, 3, 60.0, 5)
    assert (interrupted.num_trials, interrupted.epochs, interrupted.trained_s, interrupted.num_bytes) == (1, 5, 50.0, 9)
    assert (found["models"].num_bytes, found["logs"].num_bytes) == (5, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_named_goes_and_nothing_else_does(full: Store, kind: str) -> None:
    before, kept = by_kind(full), results(full)
    remove(full.files, before[kind])
    after = by_kind(full)
    assert after.pop(kind).paths == ()
    assert after == {name: each for name, each in before.items() if name != kind}
    assert results(full) == kept


def test_what_was_written_lately_stays(full: Store) -> None:
    assert all(each.paths == () for each in removable(full, older_than_s=3_600))
    long_ago = time.time() - 7_200
    os.utime(Path(full.files.root, "logs/a.log"), (long_ago, long_ago))
    newest = max(Path(full.files.root, "running/later").iterdir())
    for path in newest.parent.iterdir():
        if path != newest:
            os.utime(path, (long_ago, long_ago))
    found = by_kind(full, older_than_s=3_600)
    assert found["logs"].paths == ("logs/a.log",)
    assert found["interrupted"].paths == ()  # of a trial all or nothing


def test_a_trial_whose_cleaning_is_killed_keeps_its_newest_checkpoint(full: Store, monkeypatch: Any) -> None:
    deleted: list[str] = []

    def once(self: Any, path: str) -> None:
        if deleted:
            raise KeyboardInterrupt
        deleted.append(path)
        os.unlink(self.path(path))

    with monkeypatch.context() as patch:
        patch.setattr(type(full.files), "delete", once)
        with pytest.raises(KeyboardInterrupt):
            remove(full.files, by_kind(full)["interrupted"])
    assert full.checkpoint_epochs("later") == [5]


def test_the_command_says_what_there_is_and_removes_what_is_named(full: Store) -> None:
    storage, before = full.files.root, by_kind(full)
    shown = run("clean", storage)
    assert all(f"--{kind}" in shown.stdout for kind in KINDS)
    assert "train 3 epochs (1m) again" in " ".join(shown.stdout.split())
    assert max(map(len, shown.stdout.splitlines())) <= 80
    run("clean", storage, "--failed", "--models", "--dry-run")
    assert by_kind(full) == before
    done = run("clean", storage, "--failed", "--models", "--yes")
    assert "2 files removed, 10 B freed" in done.stdout
    assert [kind for kind, each in by_kind(full).items() if not each.paths] == ["failed", "models"]
    assert "nothing to remove" in run("clean", storage, "--failed", "--yes").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--logs",), "--yes"), (("--yes",), "--checkpoints"), (("--logs", "--older-than", "soon"), "such as 90m")],
)
def test_what_is_not_clear_is_refused(full: Store, arguments: tuple[str, ...], said: str) -> None:
    before = by_kind(full)
    error = run("clean", full.files.root, *arguments).exception
    assert error is not None
    assert said in str(error.message) if hasattr(error, "message") else said in str(error)
    assert by_kind(full) == before


def test_nothing_goes_while_a_driver_works(full: Store) -> None:
    before = by_kind(full)
    with Lease(full.files):
        assert isinstance(run("clean", full.files.root, "--logs", "--yes").exception, LeaseHeld)
    assert by_kind(full) == before
