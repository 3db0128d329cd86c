"""How a command ends that is told to by signals, whoever sends them, and to whomever else.

Ctrl-C and a closed terminal, `timeout`, systemd and schedulers signal every process of a group or job, some of them
twice in a moment, and some with a warning (SIGUSR1) before. All of it means the same: end in order. What the first
signal does, those of the same second do not do again; after that a person may press Ctrl-C once more. Ctrl-\\ (SIGQUIT)
means no other end, and left to itself it would kill Ray's servers while their driver needs them, and dump cores.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

ANY_COMMAND = (signal.SIGINT, signal.SIGTERM)
PRESSED = (signal.SIGINT, signal.SIGQUIT)  # Ctrl-C and Ctrl-\, by a person, who may mean it twice
ANY_RUN = (*ANY_COMMAND, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
SAME_S = 1.0  # signals of one cause
RAY_THREAD = "ray"
_last_calls: list[Callable[[], None]] = []


def _interrupt() -> None:
    raise KeyboardInterrupt


class _Taken:
    """What this process makes of the signals; there is one, as signals are of the process."""

    def __init__(self) -> None:
        self.first: Callable[[], None] = _interrupt
        self.since: float | None = None

    def __call__(self, number: int, frame: object) -> None:
        signal.alarm(0)  # ray 2.60.0: a driver that gets SIGTERM while it joins has itself aborted in 3 s
        if number == signal.SIGHUP:
            _let_go_of_closed_terminals()
        now = time.monotonic()
        if self.since is None:
            self.since = now
            self.first()
        elif number in PRESSED and now - self.since > SAME_S:
            raise KeyboardInterrupt


_taken = _Taken()


def interrupted_by(numbers: Sequence[signal.Signals]) -> None:
    """From here on the first of these signals is a KeyboardInterrupt; what is ignored stays so, as `nohup` has it."""
    if threading.current_thread() is threading.main_thread():
        _taken.first, _taken.since = _interrupt, None
        _install(numbers, taken_anyway=())


@contextmanager
def asked_to_stop(stop: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """The first of the signals that end a run calls `stop`, Ctrl-C (or Ctrl-\\) after that is a KeyboardInterrupt.

    SIGINT is taken even where it is ignored, as it is of what a script has started in the background: whoever stops the
    script, or sends it with `kill`, means the run.

    Yields what takes the signals back from whoever has taken them. After the block nothing of the same cause is heard
    again: a run that was asked to stop is not interrupted in its last writes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in ANY_RUN}
    if _taken not in before.values():  # nobody asked so far
        _taken.since = None
    _taken.first = stop
    _install(ANY_RUN, taken_anyway=ANY_COMMAND)
    try:
        yield lambda: _install(ANY_RUN, taken_anyway=ANY_COMMAND)
    finally:
        _taken.first = _interrupt
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def over(end: Callable[[], None]) -> None:
    """From here on all has been said, and the next signal ends the process by this call."""
    _taken.first, _taken.since = end, None


def deaf() -> None:
    """Ignore what ends a run: a worker ends its step and is told by its driver."""
    if threading.current_thread() is threading.main_thread():
        for number in ANY_RUN:
            signal.signal(number, signal.SIG_IGN)


def before_leaving(call: Callable[[], None]) -> None:
    """Have this called last, by a process that leaves a thread behind."""
    _last_calls.append(call)


def left_behind() -> bool:
    """Whether this process has a thread that is lost in Ray, so that it has to leave without the usual farewells."""
    return any(thread.name == RAY_THREAD for thread in threading.enumerate())


def leave(code: int) -> NoReturn:
    """End the process at once, with nothing taken apart and no exit handler run."""
    for call in _last_calls:
        with suppress(Exception):
            call()
    os._exit(code)


def _let_go_of_closed_terminals() -> None:
    """Where one was is nothing from now on, for the commands that a run starts at its end: it refuses all they say.

    What the run says itself is let go by `outlet`.
    """
    with suppress(OSError), open(os.devnull, "r+b") as nothing:
        for name in os.listdir("/proc/self/fd"):  # none where the system has no /proc
            with suppress(OSError):
                where = os.readlink(f"/proc/self/fd/{name}")
                if where.startswith(("/dev/pts/", "/dev/tty")) and not os.isatty(int(name)):
                    os.dup2(nothing.fileno(), int(name))


def _install(numbers: Sequence[signal.Signals], *, taken_anyway: Sequence[signal.Signals]) -> None:
    for number in numbers:
        if number in taken_anyway or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _taken)
