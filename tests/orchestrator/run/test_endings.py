"""What a process makes of signals, those of one cause and those after them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from orchestrator.run import endings
from orchestrator.run.endings import ANY_COMMAND, ANY_RUN, PRESSED, asked_to_stop, deaf, interrupted_by
from tests.patience import LIMIT_S


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As the signals are when a process starts, and afterwards as they were."""
    before = {number: signal.getsignal(number) for number in ANY_RUN}
    for number in ANY_RUN:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Clock:
    """Turned by the test."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(endings, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.mark.parametrize("first", ANY_RUN)
def test_of_signals_of_one_cause_only_the_first_interrupts_and_after_them_only_what_a_person_presses(
    first: signal.Signals, clock: Clock
) -> None:
    interrupted_by(ANY_RUN)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(first)
    for number in ANY_RUN:  # such as `timeout`'s second one, to the group
        signal.raise_signal(number)
    clock.now += 30.0
    for number in set(ANY_RUN) - set(PRESSED):
        signal.raise_signal(number)
    for pressed in PRESSED:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(pressed)


def test_a_run_is_asked_to_stop_once_and_not_interrupted_in_its_last_writes(clock: Clock) -> None:
    interrupted_by(ANY_RUN)
    asked = list[str]()
    with asked_to_stop(lambda: asked.append("stop")):
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
            clock.now += 10.0
    signal.raise_signal(signal.SIGTERM)
    assert asked == ["stop"]
    interrupted_by(ANY_RUN)  # the next command of this process
    with asked_to_stop(lambda: asked.append("stop")):
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert asked == ["stop"]


def test_a_library_finds_its_handlers_again_after_a_run() -> None:
    for _ in range(2):
        asked = list[str]()
        with asked_to_stop(lambda: asked.append("stop")):  # noqa: B023
            signal.raise_signal(signal.SIGUSR2)
        assert asked == ["stop"]
        assert {signal.getsignal(number) for number in ANY_RUN} == {signal.SIG_DFL}


def test_what_is_ignored_stays_so_but_for_those_who_stop_a_run_in_the_background() -> None:
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    interrupted_by(ANY_RUN)
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGINT)
    asked = list[str]()
    with asked_to_stop(lambda: asked.append("stop")):
        signal.raise_signal(signal.SIGHUP)
        assert asked == []
        signal.raise_signal(signal.SIGINT)
    assert asked == ["stop"]


def test_a_command_that_runs_nothing_takes_only_what_any_command_does() -> None:
    interrupted_by(ANY_COMMAND)
    assert {signal.getsignal(number) for number in set(ANY_RUN) - set(ANY_COMMAND)} == {signal.SIG_DFL}


def test_a_worker_hears_none_of_them() -> None:
    deaf()
    for number in ANY_RUN:
        signal.raise_signal(number)


def test_a_run_whose_terminal_is_closed_ends_in_order_and_so_does_what_it_starts_though_nobody_hears_it() -> None:
    code = (
        "import fcntl, subprocess, sys, termios, time\n"
        "from orchestrator.run import endings, outlet\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "asked = []\n"
        "endings.interrupted_by(endings.ANY_RUN)\n"
        "with outlet.standard_outlets():\n"
        "    with endings.asked_to_stop(lambda: asked.append(1)):\n"
        "        print('begun')\n"
        "        while not asked:\n"
        "            time.sleep(0.01)\n"
        "    print('interrupted')\n"
        "sys.exit(subprocess.run('echo to the terminal', shell=True).returncode or 130)\n"
    )
    ours, theirs = os.openpty()
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    assert os.read(ours, 100).strip() == b"begun"
    os.close(ours)
    assert run.wait(LIMIT_S) == 130


def test_a_run_that_nohup_started_outlives_its_terminal() -> None:
    code = (
        "import os, signal\n"
        "from orchestrator.run import endings\n"
        "endings.interrupted_by(endings.ANY_RUN)\n"
        "with endings.asked_to_stop(lambda: print('stopped')):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('on it goes')\n"
    )
    done = subprocess.run(
        ["nohup", sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, env=os.environ
    )
    assert (done.returncode, done.stdout) == (0, "on it goes\n")
