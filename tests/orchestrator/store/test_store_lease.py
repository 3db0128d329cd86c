"""The lease: one driver per storage, and none is locked out by the dead."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.store import Files, Lease, LeaseHeld, StorageError, holder
from orchestrator.store.heartbeat import gone, place, process_started
from tests.orchestrator.store.leases import Clock, on_file, write_foreign
from tests.patience import wait_until

HOLDER = """
import sys
from orchestrator.store import Files, Lease, LeaseHeld
files = Files.at(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with Lease(files):
        print("won", flush=True)
        sys.stdin.readline()
except LeaseHeld as error:
    print(error, flush=True)
"""


def start_holders(folder: Path, num: int) -> list[subprocess.Popen[str]]:
    """Drivers that all reach for the lease at the same moment."""
    pipe, command = subprocess.PIPE, [sys.executable, "-c", HOLDER, str(folder)]
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(num)]
    assert [told(process) for process in processes] == ["ready"] * num
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return processes


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextmanager
def ended(*processes: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.at(tmp_path / "storage")


def test_a_lease_says_who_holds_it_and_is_gone_afterwards(files: Files) -> None:
    with Lease(files) as mine:
        held = on_file(files)
        assert (held["pid"], held["process_started"]) == (os.getpid(), process_started(os.getpid()))
        assert holder(files) == held
        assert mine.lost == ""
    assert not files.exists("lease.json")
    assert holder(files) is None


def test_a_lease_is_released_when_the_driver_fails(files: Files) -> None:
    with pytest.raises(RuntimeError, match="the driver fails"), Lease(files):
        raise RuntimeError("the driver fails")
    assert not files.exists("lease.json")


@pytest.mark.parametrize("where", ["files", "far"])
def test_a_second_driver_is_refused_and_told_by_whom_since_when_and_what_to_do(
    where: str, request: pytest.FixtureRequest, clock: Clock
) -> None:
    files: Files = request.getfixturevalue(where)
    with Lease(files):
        held = on_file(files)
        with pytest.raises(LeaseHeld) as caught, Lease(files):
            pytest.fail("two drivers")
        line = str(caught.value)
        for part in (
            files.uri,
            held["host"],
            f"pid {os.getpid()}",
            held["since"],
            "last heartbeat 0 s ago",
            "kill -INT",
        ):
            assert part in line
        assert "\n" not in line
        assert on_file(files)["token"] == held["token"]
    with Lease(files):
        pass


@pytest.mark.slow
def test_of_many_drivers_that_start_together_exactly_one_wins(files: Files) -> None:
    processes = start_holders(Path(files.root), 5)
    with ended(*processes):
        lines = [told(process) for process in processes]
        assert lines.count("won") == 1
        winner = processes[lines.index("won")]
        assert all(f"pid {winner.pid}" in line for line in lines if line != "won")


@pytest.mark.slow
@pytest.mark.parametrize("reaped", [True, False])
def test_the_lease_of_a_killed_driver_on_this_host_is_taken_over_at_once(
    files: Files, reaped: bool, clock: Clock
) -> None:
    (first,) = start_holders(Path(files.root), 1)
    with ended(first):
        assert told(first) == "won"
        first.kill()
        if reaped:
            first.wait()
        else:
            wait_until(lambda: process_started(first.pid) == 0)
        assert holder(files) is None
        with Lease(files):
            assert clock.pauses_s == []
            assert on_file(files)["pid"] == os.getpid()


@pytest.mark.slow
def test_of_many_drivers_that_find_a_dead_one_exactly_one_takes_over(files: Files) -> None:
    (first,) = start_holders(Path(files.root), 1)
    with ended(first):
        assert told(first) == "won"
        first.kill()
    processes = start_holders(Path(files.root), 4)
    with ended(*processes):
        assert [told(process) for process in processes].count("won") == 1


def test_a_process_id_that_was_given_to_another_process_does_not_keep_the_lease(files: Files, clock: Clock) -> None:
    write_foreign(files, age_s=0.0, place=place(), pid=os.getpid(), process_started=1, beat_s=50.0)
    with Lease(files):
        assert clock.pauses_s == []


def test_of_a_process_elsewhere_or_of_another_user_nobody_claims_that_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = {"place": place(), "pid": os.getpid(), "process_started": process_started(os.getpid())}
    assert not gone(mine)
    assert gone(mine | {"process_started": 1})
    assert not gone({"place": "elsewhere", "pid": 2**22 + 1, "process_started": 1})

    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not gone(mine)


@pytest.mark.parametrize("where", ["files", "far"])
@pytest.mark.parametrize("age_s", [61.0, -3600.0], ids=["old", "clock far ahead"])
def test_a_lease_whose_heartbeat_stopped_on_another_host_is_taken_over_after_a_look(
    where: str, age_s: float, request: pytest.FixtureRequest, clock: Clock
) -> None:
    files: Files = request.getfixturevalue(where)
    write_foreign(files, age_s=age_s, beat_s=0.4)
    assert holder(files) is None
    with Lease(files):
        assert clock.pauses_s[0] == pytest.approx(1.5 * 0.4)
        assert len(clock.pauses_s) == (1 if files.local else 2)  # an object store is read once more after a moment
        assert on_file(files)["pid"] == os.getpid()


def test_a_driver_whose_clock_is_late_keeps_its_lease_as_long_as_it_beats(files: Files, clock: Clock) -> None:
    write_foreign(files, age_s=500.0, beat_s=0.4)
    clock.meanwhile = lambda: write_foreign(files, age_s=499.0, beat_s=0.4)
    with pytest.raises(LeaseHeld, match="node07"), Lease(files):
        pytest.fail("two drivers")
    assert clock.pauses_s[0] == pytest.approx(1.5 * 0.4)
    assert on_file(files)["token"] == "theirs"


def test_a_living_driver_on_another_host_is_not_disturbed(files: Files, clock: Clock) -> None:
    clock.meanwhile = lambda: write_foreign(files, age_s=50.0)
    write_foreign(files, age_s=50.0)
    with pytest.raises(LeaseHeld, match=r"node07 \(pid 4242\).*50 s ago.*try again in 10 s"), Lease(files):
        pytest.fail("two drivers")


def test_a_damaged_lease_is_watched_until_its_driver_would_have_seen_that_and_locks_nobody_out(
    files: Files, clock: Clock
) -> None:
    files.write("lease.json", b'{"host": "node')
    assert holder(files) is None
    with Lease(files, ttl_s=60.0, beat_s=10.0):
        assert clock.pauses_s == [15.0]
        assert on_file(files)["pid"] == os.getpid()


@pytest.mark.parametrize("where", ["files", "far"])
def test_the_heart_beats_until_somebody_takes_the_lease_and_then_says_that_it_is_lost(
    where: str, request: pytest.FixtureRequest
) -> None:
    files: Files = request.getfixturevalue(where)
    with Lease(files, ttl_s=5.0, beat_s=0.05) as mine:
        first = on_file(files)
        wait_until(lambda: on_file(files)["beat"] > first["beat"])
        assert on_file(files) | {"beat": ""} == first | {"beat": ""}
        theirs = write_foreign(files, age_s=0.0)
        wait_until(lambda: mine.lost or on_file(files) != theirs)
        if on_file(files) != theirs:  # without locks a beat may have gone between; the other one is told then
            write_foreign(files, age_s=0.0)
        wait_until(lambda: mine.lost)
        assert "taken over by the driver on node07 (pid 4242)" in mine.lost
    assert on_file(files)["token"] == "theirs"


def test_a_lease_that_was_removed_is_lost(files: Files) -> None:
    with Lease(files, ttl_s=5.0, beat_s=0.05) as mine:
        files.delete("lease.json")
        wait_until(lambda: mine.lost)
        assert "removed or damaged" in mine.lost
    assert not files.exists("lease.json")


def test_a_lease_whose_heartbeat_cannot_be_written_is_lost_after_its_time_to_live(
    files: Files, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    refused = list[str]()

    def refuse(self: Files, path: str, data: bytes, *, durable: bool = False) -> None:
        refused.append(path)
        raise StorageError("cannot write lease.json: No space left on device")

    with Lease(files, ttl_s=60.0, beat_s=0.01) as mine:
        with monkeypatch.context() as patch:
            patch.setattr(Files, "write", refuse)
            clock.passed_s = 59.0
            wait_until(lambda: len(refused) > 2)
            assert mine.lost == ""
            clock.passed_s += 60.1
            wait_until(lambda: mine.lost)
        assert "no heartbeat could be written" in mine.lost
        assert "No space left" in mine.lost


def test_on_an_object_store_the_one_that_was_overwritten_meanwhile_is_refused(
    far: Files, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    original = Files.create

    def create_and_be_overwritten(self: Files, path: str, data: bytes) -> bool:
        created = original(self, path, data)
        write_foreign(self, age_s=0.0)
        return created

    monkeypatch.setattr(Files, "create", create_and_be_overwritten)
    with pytest.raises(LeaseHeld, match="node07"), Lease(far):
        pytest.fail("two drivers")
    assert on_file(far)["token"] == "theirs"


def test_a_lease_that_outlives_its_heartbeats_is_refused_at_once(files: Files) -> None:
    with pytest.raises(ValueError, match="beat_s=60"):
        Lease(files, ttl_s=10, beat_s=60)


@pytest.fixture(params=[False, True], ids=["outside", "in a job"])
def anywhere(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """In a Ray job, and in none."""
    if request.param:
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")


def test_a_driver_waits_for_the_lease_of_a_lost_host_and_takes_it_over(
    files: Files, anywhere: None, capfd: pytest.CaptureFixture[str], clock: Clock
) -> None:
    write_foreign(files, age_s=0.0, beat_s=10.0)
    with Lease(files):
        assert on_file(files)["pid"] == os.getpid()
        assert 60.0 < clock.passed_s <= 60.0 + 2 * 15.0  # until it is stale, and then a look
    (line,) = capfd.readouterr().err.splitlines()
    assert "in use by the driver on node07 (pid 4242)" in line
    assert line.endswith("(last heartbeat 0 s ago); waiting 60 s for its end")


def test_it_waits_no_longer_than_the_heartbeat_needs_to_run_out(files: Files, anywhere: None, clock: Clock) -> None:
    write_foreign(files, age_s=50.0, beat_s=1.0)
    with Lease(files):
        assert 10.0 < clock.passed_s <= 10.0 + 2 * 1.5


def test_it_goes_on_as_soon_as_the_driver_before_it_ends(files: Files, anywhere: None, clock: Clock) -> None:
    write_foreign(files, age_s=0.0)
    clock.meanwhile = lambda: clock.passed_s >= 3.0 and files.delete("lease.json")
    with Lease(files, ttl_s=60.0, beat_s=0.2):
        assert on_file(files)["pid"] == os.getpid()
        assert clock.passed_s == pytest.approx(3.0, abs=0.21)


@pytest.mark.parametrize("runs", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("ahead_s", [0.0, 59.0, -20.0])
def test_a_lease_that_does_not_change_for_its_time_to_live_is_taken_over_whatever_the_clocks_say(
    files: Files, anywhere: None, clock: Clock, runs: float, ahead_s: float
) -> None:
    def run_otherwise() -> None:
        clock.set_s = (runs - 1.0) * clock.passed_s

    clock.meanwhile = run_otherwise
    write_foreign(files, age_s=-ahead_s, beat_s=10.0)
    with Lease(files):
        assert on_file(files)["pid"] == os.getpid()
        assert 15.0 < clock.passed_s < 62.0


def test_a_lease_that_lives_longer_than_one_s_own_is_left_alone_for_its_own_time(
    files: Files, anywhere: None, clock: Clock
) -> None:
    def stand_still() -> None:
        clock.set_s = -clock.passed_s

    clock.meanwhile = stand_still
    write_foreign(files, age_s=0.0, beat_s=10.0, ttl_s=120.0)
    with pytest.raises(LeaseHeld, match="in use by the driver on node07"), Lease(files):
        pytest.fail("two drivers")


def test_a_lease_that_says_it_lives_longer_than_ten_minutes_is_none(files: Files) -> None:
    write_foreign(files, age_s=0.0, ttl_s=600.0)
    assert holder(files) is not None
    write_foreign(files, age_s=0.0, ttl_s=600.1)
    assert holder(files) is None


def test_a_clock_that_is_put_forward_lets_no_second_driver_in(files: Files, anywhere: None, clock: Clock) -> None:
    def set_and_beat() -> None:
        clock.set_s = 500.0
        write_foreign(files, age_s=500.0)

    clock.meanwhile = set_and_beat
    write_foreign(files, age_s=0.0)
    with pytest.raises(LeaseHeld, match="in use by the driver on node07"), Lease(files):
        pytest.fail("two drivers")


def test_it_is_refused_when_the_driver_before_it_still_beats(files: Files, anywhere: None, clock: Clock) -> None:
    write_foreign(files, age_s=0.0)
    clock.meanwhile = lambda: write_foreign(files, age_s=0.0)
    with pytest.raises(LeaseHeld, match="in use by the driver on node07"), Lease(files):
        pytest.fail("two drivers")
    assert clock.passed_s > 60.0 + 15.0


def test_a_job_waits_even_for_a_driver_on_its_own_host(
    files: Files, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    write_foreign(files, age_s=0.0, place=place(), pid=os.getpid(), process_started=process_started(os.getpid()))
    clock.meanwhile = lambda: clock.passed_s >= 3.0 and files.delete("lease.json")
    with Lease(files):
        assert on_file(files)["pid"] == os.getpid()


def test_an_interruption_leaves_no_lease(files: Files, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Lease(files):
        monkeypatch.setattr(Files, "delete", interrupt)
    assert not files.exists("lease.json")
    monkeypatch.setattr(threading.Thread, "start", interrupt)
    with pytest.raises(KeyboardInterrupt), Lease(files):
        pytest.fail("it is held")
    assert not files.exists("lease.json")


def test_nfs_that_does_what_is_asked_and_loses_the_answer_costs_neither_the_lease_nor_a_write(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_link, whole_replace = os.link, os.replace

    def link_twice(source: str, target: str) -> None:
        whole_link(source, target)
        whole_link(source, target)

    def replace_twice(source: str, target: str) -> None:
        whole_replace(source, target)
        whole_replace(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    monkeypatch.setattr(os, "replace", replace_twice)
    with Lease(files) as mine:
        assert on_file(files)["token"] == mine.token
        mine.files.write("trials/x", b"x", durable=True)
    assert files.read("trials/x") == b"x"
    assert not files.exists("lease.json")
    with Lease(files), pytest.raises(LeaseHeld), Lease(files):
        pytest.fail("two drivers")
