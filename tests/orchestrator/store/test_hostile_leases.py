"""Whatever stands in the place of a lease holds nobody up for ever, and is told in one line."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.store import Files, Lease, LeaseHeld, StorageError, heartbeat, holder
from orchestrator.store.heartbeat import place
from tests.orchestrator.store.leases import Clock

LONGEST_S = 700.0  # that anybody waits
TIMES = ("9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00", "2026-03-01T12:00:00", "NaN", "", "now", "-1")
NUMBERS = (0, -1, 1, True, 2**31 - 1, 2**31, 2**63, 10**400, 1e300, -1e300, 0.5, 1e-300, float("nan"), float("inf"))
TEXTS = ("node07", "a\nb", "\x1b[2J\x1b]0;x\x07", "\ud800", "x" * 10_000, "\u202e", "", "²")
anything = st.one_of(
    st.none(), st.sampled_from(NUMBERS), st.sampled_from(TIMES), st.sampled_from(TEXTS), st.just([]), st.just({})
)
fields = st.dictionaries(
    st.sampled_from(
        ["host", "pid", "process_started", "place", "job", "since", "beat", "beat_s", "ttl_s", "token", "x"]
    ),
    anything | st.just("here"),
    max_size=3,
)
raw = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"[" * 60_000, b'{"a":' * 10_000, b"x" * 10_000_000, b"null", b"[]", b"1e999", b"\xff\xfe"]),
)


def lease_of(clock: Clock, changes: dict[str, Any]) -> bytes:
    held = {"host": "node07", "pid": 4242, "process_started": 1, "place": "elsewhere", "job": "", "token": "theirs"}
    held |= {"since": clock.now().isoformat(), "beat": clock.now().isoformat(), "beat_s": 10.0, "ttl_s": 60.0}
    changes = {name: place() if value == "here" else value for name, value in changes.items()}
    return json.dumps(held | changes).encode()


def careful(pid: int, number: int) -> None:
    assert 0 < pid < 2**31, "a group of processes"
    assert number == 0
    raise ProcessLookupError


def meet(files: Files, clock: Clock) -> str:
    """Ask who drives, and want the lease twice, a day apart; what was said of it the first time."""
    held = holder(files)
    assert held is None or (held["host"].isprintable() and len(held["host"]) <= 100)
    try:
        with Lease(files):
            return ""
    except StorageError as error:
        said = str(error)
    assert clock.passed_s <= LONGEST_S
    assert len(said) < 1_000
    assert "".join(said.split(" ")).isprintable()
    clock.passed_s += 86_400.0
    with Lease(files):
        return said


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(content=fields | raw, job=st.booleans())
def test_no_content_of_a_lease_holds_a_storage_for_ever(content: dict[str, Any] | bytes, job: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        clock.installed(patch)
        patch.setattr(os, "kill", careful)
        if job:
            patch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
        files = Files.at(folder)
        files.write("lease.json", content if isinstance(content, bytes) else lease_of(clock, content))
        said = meet(files, clock)
        assert not said or "is in use by the driver on" in said


THINGS: dict[str, Callable[[Path], object]] = {
    "pipe": lambda path: os.mkfifo(path),
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "empty file": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_file_in_the_place_of_a_lease_is_replaced(tmp_path: Path, clock: Clock, thing: str) -> None:
    THINGS[thing](tmp_path / "lease.json")
    files = Files.at(tmp_path)
    assert holder(files) is None
    with Lease(files):
        assert (tmp_path / "lease.json").is_file()
        assert not (tmp_path / "lease.json").is_symlink()
        assert clock.passed_s <= 15.1
    assert sorted(os.listdir(tmp_path)) == [".lease.lock"]


def test_a_folder_in_the_place_of_a_lease_is_put_aside(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "lease.json").mkdir()
    (tmp_path / "lease.json/x").write_text("x")
    with Lease(Files.at(tmp_path)):
        assert (tmp_path / "lease.json").is_file()
    assert clock.passed_s <= 15.1


@pytest.mark.parametrize("pid", [0, -1, 2**63, True, 1.5, None])
def test_a_process_id_beyond_range_is_never_asked_about(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, pid: Any
) -> None:
    monkeypatch.setattr(os, "kill", careful)
    files = Files.at(tmp_path)
    files.write("lease.json", lease_of(clock, {"pid": pid, "place": "here"}))
    assert heartbeat.on_file(files) == {}
    with Lease(files):
        assert clock.pauses_s == [15.0]


def test_a_lease_of_another_host_is_refused_with_text_that_is_fit_to_be_shown(tmp_path: Path, clock: Clock) -> None:
    files = Files.at(tmp_path)
    files.write(
        "lease.json", lease_of(clock, {"host": "node\x1b[2J\n07" + "x" * 1_000, "beat_s": 1.0, "place": "here"})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "kill", lambda pid, number: None)
        patch.setattr(heartbeat, "process_started", lambda pid: 1)
        with pytest.raises(LeaseHeld, match=r"in use by the driver on node\?\[2J\?07xxx") as caught, Lease(files):
            pytest.fail("two drivers")
    assert len(str(caught.value)) < 600
