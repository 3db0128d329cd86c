"""JSON files of a storage that never end, are nested without end, or say two things at once: one clear line each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.findings.status import summary
from orchestrator.store import StorageError, Store, holder


def written(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


HARM: dict[str, Callable[[Path], object]] = {
    "deep": written('{"experiment": ' + "[" * 100_000),
    "too deep for who walks through it": written('{"experiment": ' + "[" * 900 + "]" * 900 + "}"),
    "a key twice": written('{"experiment": {}, "experiment": {}}'),
    "no object": written("[]"),
    "no JSON": written("\x00"),
    "huge": sparse,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


ENDLESS = ("a pipe", "a device", "a link to itself")


@pytest.fixture
def used(store: Store, make_row: Callable[..., dict[str, Any]]) -> Store:
    """A storage with a finished trial, one that runs, and a run."""
    store.finish(make_row(0), [{"epoch": 1}])
    store.begin({"trial_id": "begun", "attempts": 1})
    store.write_run({"started_at": "2026-03-01T12:00:00+00:00", "slots": 2})
    return store


@pytest.mark.parametrize("harm", HARM)
def test_a_record_that_does_harm_is_one_line(harm: str, used: Store) -> None:
    path = Path(used.files.path("experiment.json"))
    path.unlink()
    HARM[harm](path)
    with pytest.raises(StorageError) as caught:
        Store.open(used.files.uri)
    assert "experiment.json" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("harm", HARM)
def test_other_files_that_do_harm_are_told_and_everything_else_is_read(harm: str, used: Store) -> None:
    names = ["running/begun/trial.json", f"runs/{used.files.names('runs')[0]}"]
    for name in names:
        Path(used.files.path(name)).unlink()
        HARM[harm](Path(used.files.path(name)))
    found = summary(Store.open(used.files.uri))
    assert found["counts"]["search"]["COMPLETE"] == 1
    assert (found["running"], found["run"]) == ([], None)
    told = [name for name in names if any(name in line for line in found["warnings"])]
    assert told == (names[:1] if harm in ENDLESS else names)  # of a folder's own files alone each is read


@pytest.mark.parametrize("harm", [harm for harm in HARM if harm not in ENDLESS])
def test_a_lease_that_does_harm_drives_nothing(harm: str, used: Store) -> None:
    HARM[harm](Path(used.files.path("lease.json")))
    assert holder(used.files) is None
    assert summary(Store.open(used.files.uri))["driver"] is None
