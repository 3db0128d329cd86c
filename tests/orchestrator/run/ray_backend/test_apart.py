"""When the main thread waits for the one with Ray, and when it leaves that behind; no Ray is started."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.run import endings
from orchestrator.run.ray_backend import apart as module
from orchestrator.run.ray_backend.apart import RunStopped, Stop, apart
from tests.patience import LIMIT_S, wait_until


class Work:
    """What stands for all that is done with Ray; hangs in it, until the test is over, where it is told to."""

    def __init__(self) -> None:
        self.stop, self.released, self.said = Stop(), threading.Event(), list[str]()
        self.begin: Callable[[], object] = lambda: None  # what happens first
        self.ends: Callable[[], bool] = lambda: False

    def __call__(self) -> None:
        self.begin()
        while not (self.ends() or self.released.wait(0.01)):
            pass

    def run(self) -> None:
        apart(self, self.stop, self.said.append)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(endings, "_last_calls", [])
    made = Work()
    yield made
    made.released.set()
    wait_until(lambda: not endings.left_behind())


def head(gone_s: float, *, refuses: bool) -> Any:
    """A head that has been gone for so long."""
    return lambda address: SimpleNamespace(look=lambda: (gone_s, refuses), patience_s=45.0)


def train(stop: Stop) -> None:
    stop.head, stop.trains = "10.0.0.1:6379", True


def interrupt(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_work_that_comes_to_its_end_does_and_what_it_raises_is_raised(work: Work) -> None:
    work.ends = lambda: True
    work.run()
    assert not work.stop.left
    work.begin = lambda: (_ for _ in ()).throw(RunStopped("no more"))
    with pytest.raises(RunStopped, match="no more"):
        work.run()


def test_running_steps_are_waited_for(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_Head", head(0.0, refuses=False))
    work.begin = lambda: (train(work.stop), interrupt())
    work.ends = lambda: bool(work.said)
    work.run()
    assert work.stop.interrupted
    assert not work.stop.left
    assert work.said == ["stopping: running steps come to their end; Ctrl-C once more to stop at once"]


def test_a_signal_while_a_run_ends_whose_time_is_over_is_what_has_ended_it(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_Head", head(0.0, refuses=False))
    work.begin = lambda: (train(work.stop), work.stop.run_out(), interrupt())
    work.ends = lambda: bool(work.said)
    work.run()
    assert (work.stop.interrupted, work.stop.out_of_time) == (True, False)
    work.stop.run_out()
    assert not work.stop.out_of_time


def test_a_ray_that_still_starts_is_left_behind_at_once(work: Work) -> None:
    ended = list[str]()
    work.stop.end_services = lambda: ended.append("services")
    work.begin = interrupt
    work.run()
    assert work.stop.left
    assert work.said == ended == []
    assert endings.left_behind()
    assert endings._last_calls == [work.stop.end_services]  # not sooner than the process leaves


@pytest.mark.parametrize("why", ["its head is gone", "it takes too long"])
def test_a_ray_that_does_not_end_is_left_behind_and_writes_nothing_any_more(
    work: Work, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    gone = why == "its head is gone"
    monkeypatch.setattr(module, "_Head", head(3.0 * gone, refuses=gone))
    monkeypatch.setattr(module, "END_S", module.END_S if gone else -module.DRAIN_S)
    wrote = list[str]()
    work.stop.finish = lambda: wrote.append("the record of the run")
    work.begin = lambda: (train(work.stop), interrupt())
    work.run()
    assert work.stop.left
    assert work.stop.write(lambda: wrote.append("a row"), "nothing") == "nothing"
    assert wrote == ["the record of the run"]


def test_a_head_that_is_gone_without_a_signal_ends_the_run_before_ray_ends_the_process(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_Head", head(46.0, refuses=False))
    work.begin = lambda: train(work.stop)
    with pytest.raises(RunStopped, match=r"the head of the Ray cluster at 10\.0\.0\.1:6379 does not answer for 46 s"):
        work.run()


def gone() -> None:
    raise ChildProcessError("its raylet ended with code -9")


def test_a_server_of_our_own_ray_that_ends_by_itself_ends_the_run_at_once(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_Head", head(0.0, refuses=False))
    work.stop.check_services = gone
    work.begin = lambda: train(work.stop)
    with pytest.raises(
        RunStopped, match=r"^Ray on this machine is gone, its raylet ended with code -9; is it short of"
    ):
        work.run()
    assert work.stop.left


@pytest.mark.parametrize("notices", [False, True])
def test_a_start_that_does_not_notice_that_a_server_has_ended_is_left_behind(
    work: Work, monkeypatch: pytest.MonkeyPatch, notices: bool
) -> None:
    monkeypatch.setattr(module, "STUCK_S", LIMIT_S if notices else 0.0)
    looked = list[int]()

    def look() -> None:
        looked.append(1)
        gone()

    work.stop.check_services = look
    work.ends = lambda: notices and len(looked) > 2
    if notices:
        work.run()
    else:
        with pytest.raises(RunStopped, match=r"^Ray on this machine is gone"):
            work.run()
    assert work.stop.left is not notices


def test_a_run_that_ends_does_not_wait_for_a_ray_that_is_gone(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_Head", head(0.0, refuses=False))
    monkeypatch.setattr(module, "DRAIN_S", LIMIT_S)
    work.begin = lambda: (train(work.stop), interrupt(), setattr(work.stop, "check_services", gone))
    work.run()
    assert work.stop.left


@pytest.mark.parametrize("hangs", [False, True])
def test_ctrl_c_once_more_waits_for_no_step(work: Work, monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    monkeypatch.setattr(module, "_Head", head(0.0, refuses=False))
    monkeypatch.setattr(module, "AT_ONCE_S", 0.05 if hangs else LIMIT_S)
    monkeypatch.setattr(endings, "SAME_S", 0.0)
    pressed = threading.Event()

    def press() -> None:
        train(work.stop)
        interrupt(signal.SIGINT)
        wait_until(lambda: work.said)
        interrupt(signal.SIGINT)
        pressed.set()

    work.begin = press
    work.ends = lambda: work.stop.at_once and not hangs
    with pytest.raises(KeyboardInterrupt):
        work.run()
    assert pressed.wait(LIMIT_S)
    assert work.stop.left == hangs


def test_a_head_answers_or_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = module._Head(f"127.0.0.1:{server.getsockname()[1]}")
        clock.now = 10.0
        assert asked.look() == (0.0, False)
    clock.now = 14.0
    assert asked.look() == (4.0, True)
    assert asked.patience_s == 45.0
