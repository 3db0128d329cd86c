"""All of Ray in a thread of its own, so that the main thread, which gets the signals, can do without.

Where a cluster dies before its driver, as when a scheduler signals every process of a job, Ray's C++ waits a minute for
the head and then ends the process, whatever that still has to write. The main thread calls nothing of Ray; it waits for
the other one to end in order, and where that takes too long, or the head is gone, leaves it behind.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from orchestrator.run.endings import RAY_THREAD, asked_to_stop, before_leaving
from orchestrator.run.time_limit import TimeLimit
from orchestrator.store.faults import CouldNotRun, StorageError

LOOK_S = 0.2
DRAIN_S = 9.0  # after the first signal, how long running steps get to come to their end
END_S = 7.0  # after that, until Ray is left behind
AT_ONCE_S = 4.0  # the same after Ctrl-C once more
STUCK_S = 15.0  # so long may a start of Ray take to notice that a server of its own has ended, and to try again
REFUSED_S = 2.0  # a head that is gone for so long while the run ends is not waited for
_MOST_WITHOUT_HEAD = "RAY_gcs_rpc_server_reconnect_timeout_s"  # ray 2.60.0: then its C++ ends the process
WRITE_S = 5.0  # how long a write that has begun may take


class RunStopped(CouldNotRun):
    """A run that could not go on; what is finished is on file, and resuming goes on with the rest."""


class Stop:
    """What the main thread and the one with Ray tell each other; `limit`: when both are to be over."""

    def __init__(self, limit: TimeLimit | None = None) -> None:
        self._limit = limit
        self.asked = False
        self.interrupted = False  # asked by a signal
        self.out_of_time = False  # asked by the end of the time
        self.at_once = False  # not even running steps are waited for
        self.trains = False  # steps may be running
        self.head = ""  # host:port, once Ray is joined
        self.finish: Callable[[], None] = lambda: None  # what is written last
        self.end_services: Callable[[], None] = lambda: None  # of a Ray that was started here
        self.check_services: Callable[[], None] = lambda: None  # the same; ChildProcessError where one has ended
        self.left = False
        self.writing = threading.Lock()
        self._drained_at = math.inf

    def ask(self, drain_s: float = DRAIN_S) -> None:
        """Start nothing new, let running steps come to their end for so long."""
        self.asked, self._drained_at = True, min(self._drained_at, time.monotonic() + drain_s)

    def interrupt(self) -> None:
        """The same, of a signal; it says how the run has ended even where its time was over before.

        Whoever goes on by himself after the end of the time, a job or a loop of a shell, is not to go on then.
        """
        self.interrupted, self.out_of_time = True, False
        self.ask()

    def run_out(self) -> None:
        """The same, of the end of the time."""
        if not self.asked:
            self.out_of_time = True
            self.ask(DRAIN_S if self._limit is None else self._limit.drain_s)

    def look_at_the_clock(self) -> None:
        """Ask, once the time is over."""
        if self._limit is not None and self._limit.left_s <= 0:
            self.run_out()

    @property
    def drained(self) -> bool:
        """Whether running steps have had their time."""
        return self.at_once or time.monotonic() > self._drained_at

    @property
    def overdue(self) -> bool:
        """Whether Ray is left behind."""
        return time.monotonic() > self._drained_at + END_S

    def write(self, call: Callable[[], Any], otherwise: Any) -> Any:
        """The call's result; once Ray is left behind `otherwise`, as the storage may have another driver by then."""
        with self.writing:
            return otherwise if self.left else call()


def apart(work: Callable[[], None], stop: Stop, say: Callable[[str], None]) -> None:
    """Do the work in a thread of its own; returns once it is over, or was asked to stop and is left behind.

    Raises what the work raises, KeyboardInterrupt at the second Ctrl-C, and RunStopped if the head is lost.
    """
    over, raised = threading.Event(), list[BaseException]()

    def body() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=body, name=RAY_THREAD, daemon=True)
    with asked_to_stop(stop.interrupt) as take_back:
        thread.start()
        try:
            _watch(over, stop, say, take_back)
        except KeyboardInterrupt:
            stop.interrupt()
            stop.at_once = True
            try:
                over.wait(AT_ONCE_S * stop.trains)
            finally:
                if not over.is_set():
                    _leave(stop)
            raise
    if stop.left:
        return
    thread.join()
    for error in raised:
        raise error


def _watch(over: threading.Event, stop: Stop, say: Callable[[str], None], take_back: Callable[[], None]) -> None:
    head: _Head | None = None
    told, well_at = False, time.monotonic()
    while not over.wait(LOOK_S):
        if stop.head and head is None:
            take_back()  # ray 2.60.0: whoever joins has SIGTERM taken by C++
            head = _Head(stop.head)
        stop.look_at_the_clock()
        gone_s, refused = head.look() if head else (0.0, False)
        lost = _lost(stop)
        well_at = well_at if lost else time.monotonic()
        if not head and time.monotonic() - well_at < STUCK_S:
            lost = ""
        if not stop.asked:
            if head and gone_s > head.patience_s:
                lost = f"the head of the Ray cluster at {stop.head} does not answer for {gone_s:.0f} s"
            if lost:
                _leave(stop)
                raise RunStopped(lost)
            continue
        if stop.interrupted and stop.trains and not told:
            say("stopping: running steps come to their end; Ctrl-C once more to stop at once")
            told = True
        if not stop.trains or stop.overdue or (refused and gone_s > REFUSED_S) or lost:
            _leave(stop)
            return


def _lost(stop: Stop) -> str:
    """Which server of the Ray that was started here has come to an end by itself, if any.

    Looked at often: without its raylet C++ ends this process in a second or two, and says nothing.
    """
    try:
        stop.check_services()
    except ChildProcessError as error:
        return (
            f"Ray on this machine is gone, {error}; is it short of memory (`dmesg` tells), or did somebody end it "
            "(`ray stop` ends every Ray of a user)?"
        )
    return ""


def _leave(stop: Stop) -> None:
    """Go on without the thread: from here on it writes nothing."""
    quiet = stop.writing.acquire(timeout=WRITE_S)
    stop.left = True
    if quiet:
        stop.writing.release()
    before_leaving(stop.end_services)  # not sooner: C++ may end a process that loses them
    with contextlib.suppress(StorageError):  # it is but the record of the run
        stop.finish()


class _Head:
    """Whether the head of a cluster takes connections, asked once a second."""

    def __init__(self, address: str) -> None:
        self._address, self._refuses = address, False
        self._seen = self._looked = time.monotonic()
        self.patience_s = 0.75 * float(os.environ.get(_MOST_WITHOUT_HEAD, 60))

    def look(self) -> tuple[float, bool]:
        """For how many seconds it has not answered, and whether it refuses, as no machine does that is only busy."""
        if time.monotonic() - self._looked > 1.0:
            host, _, port = self._address.rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
                self._seen, self._refuses = time.monotonic(), False
            except OSError as error:
                self._refuses = isinstance(error, ConnectionRefusedError)
            self._looked = time.monotonic()
        return self._looked - self._seen, self._refuses
