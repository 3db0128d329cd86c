"""The lease: one driver per storage at a time, known by a heartbeat in `lease.json`.

A second driver is refused, and told who holds the storage. A lease is taken over at once if this machine can tell that
its process is gone; else if it has not changed for a beat and a half under the eyes of who wants it and its heartbeat
is older than `ttl_s` (or it is damaged), or for the whole `ttl_s`, whatever the clocks of two hosts say. On a local
folder acquiring is exclusive: `flock` orders those who want the lease, and a hard link creates it. NFS without locks
and object stores (no conditional PUT) give less: the lease is written, and read back after a moment.

So a driver is sure of its lease for a bit more than a beat after a heartbeat. One that was stopped or suspended for
longer reads it again before it changes anything else: every change goes through `Lease.files`, which look at the
clocks. What is left: a write that is under way while the process is stopped, and a frozen virtual machine whose clocks
all stood still, for a beat.

Of a driver on another host nobody can tell at once that it is gone: one that finds its lease says so, waits until that
is free or stale, a minute, and is refused only if it still beats then. So does a driver that runs as a Ray job whoever
holds the lease: it may be the next attempt of one that is about to end, with nobody there to try again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

from msa_models.printable import one_line
from orchestrator.store import heartbeat
from orchestrator.store.experiment_file import LEASE_PATH
from orchestrator.store.faults import OutOfReach, StorageError, os_fault
from orchestrator.store.files import Files
from orchestrator.store.heartbeat import Moment

_SETTLE_S = 1.0
_SURE_BEATS = 1.25  # after a heartbeat, for which nobody else can have taken the lease
_WATCH_BEATS = 1.5  # without one, after which somebody may
_PROMPT_S = 1.0  # from reading the lease to writing it, where nothing locks
_LOCK_S, _LOCK_EVERY_S = 20.0, 0.02


class LeaseHeld(StorageError):
    """Another driver works on this storage; `elsewhere`: on a host of which this one cannot tell whether it lives."""

    def __init__(self, message: str, *, elsewhere: bool = False) -> None:
        super().__init__(message)
        self.elsewhere = elsewhere


class LeaseLost(OutOfReach):
    """Another driver may be at work: whoever meets this changes nothing more in the storage."""


class Lease:
    """Held from `with` to its end. Change the storage by `files` only: they raise `LeaseLost` once it is `lost`."""

    def __init__(self, files: Files, *, ttl_s: float = 60.0, beat_s: float = 10.0) -> None:
        if not 0 < beat_s < ttl_s:
            raise ValueError(f"a lease beats within its time to live; got beat_s={beat_s}, ttl_s={ttl_s}")
        self.ttl_s, self.beat_s = float(ttl_s), float(beat_s)
        self.lost = ""  # the reason, once it is lost
        self.token = uuid.uuid4().hex
        self.files, self._files = replace(files, guard=self.check), files
        self._since = ""
        self._sure = Moment.now()  # of the newest heartbeat that is known to be on file
        self._seen: dict[str, Any] | None = None  # the lease of another one
        self._seen_at = 0.0  # since when it is the same
        self._beating = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="lease heartbeat", daemon=True)

    def __enter__(self) -> Lease:
        self._since = heartbeat.now().isoformat()
        try:
            self._take(patient_until=time.monotonic() + self.ttl_s + _WATCH_BEATS * self.beat_s)
            self._thread.start()
        except KeyboardInterrupt:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._release()
        except KeyboardInterrupt:
            self._release()
            raise

    def check(self) -> None:
        """Raise LeaseLost unless this driver holds the lease, StorageError where that cannot be told.

        A look at the clocks, and at the file only if the last heartbeat is so old that another driver may have come.
        """
        if self._is_late and not (self.lost or self._stop.is_set()):
            self._beat()
        self.stop_if_lost()

    def stop_if_lost(self) -> None:
        """Raise LeaseLost where it is known to be lost, or was given back."""
        if self.lost or self._stop.is_set():
            reason = self.lost or f"the lease on {self._files.uri} was given back"
            raise LeaseLost(f"{reason}; stopped, so that no trial is trained twice")

    @property
    def _is_late(self) -> bool:
        return self._sure.passed_s > _SURE_BEATS * self.beat_s

    def _release(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self.beat_s)
        with contextlib.suppress(StorageError), _in_turn(self._files) as exclusive:
            looked = Moment.now()
            if (heartbeat.on_file(self._files) or {}).get("token") == self.token:
                _prompt(self._files, looked, exclusive).delete(LEASE_PATH)

    def _take(self, patient_until: float) -> None:
        waiting = False
        while True:
            try:
                if not (pause_s := self._try_to_take()):
                    return
            except LeaseHeld as error:
                if time.monotonic() > patient_until or not (error.elsewhere or in_ray_job()):
                    raise
                if not waiting:
                    used = str(error).partition("; wait for it")[0]
                    said = one_line(f"{used}; waiting {self.ttl_s:.0f} s for its end")
                    print(said, file=sys.stderr, flush=True)
                waiting, pause_s = True, min(self.beat_s, 1.0)
            time.sleep(pause_s)

    def _try_to_take(self) -> float:
        """Take the lease if it is free (0), or say how long to watch one that may have been left behind."""
        with _in_turn(self._files) as exclusive:
            self._sure = Moment.now()
            if not self._files.create(LEASE_PATH, self._record()):
                held = heartbeat.on_file(self._files)
                if held is not None and (left_s := self._to_watch_s(held)):
                    return left_s
                _prompt(self._files, self._sure, exclusive).write(LEASE_PATH, self._record())
            elif self._files.local:
                exclusive = True
        if not exclusive:
            time.sleep(_SETTLE_S)
            held = heartbeat.on_file(self._files)
            if held and held["token"] != self.token:
                raise self._refusal(held)
        return 0.0

    def _to_watch_s(self, held: dict[str, Any]) -> float:
        """How much longer a lease has to stand there unchanged, until it may be taken. Raises LeaseHeld."""
        now, changed = time.monotonic(), held != self._seen and self._seen is not None
        if held != self._seen:
            self._seen, self._seen_at = held, now
        if not held:  # damaged: a driver that lives finds that at its next beat, and stops
            needed_s = _WATCH_BEATS * self.beat_s
        elif heartbeat.gone(held):
            return 0.0
        elif not changed and heartbeat.stale(held, self.ttl_s):
            needed_s = min(_WATCH_BEATS * held["beat_s"], held["ttl_s"])
        elif now - self._seen_at >= max(self.ttl_s, held["ttl_s"]):
            return 0.0
        else:
            raise self._refusal(held)
        return max(0.0, needed_s - (now - self._seen_at))

    def _beat_on(self) -> None:
        last_beat = time.monotonic()
        while not self.lost and not self._stop.wait(self.beat_s):
            try:
                self._beat()
                last_beat = time.monotonic()
            except StorageError as error:
                if time.monotonic() - last_beat > self.ttl_s:
                    self.lost = f"no heartbeat could be written for {self.ttl_s:.0f} s ({error})"

    def _beat(self) -> None:
        """Write a heartbeat, or find that the lease is lost. Raises StorageError where neither can be told."""
        with self._beating, _in_turn(self._files) as exclusive:
            late, looked = self._is_late, Moment.now()
            if not self._is_mine():
                return
            _prompt(self._files, looked, exclusive).write(LEASE_PATH, self._record())
            if not exclusive and looked.passed_s > self.ttl_s:  # it may have come over the lease of another driver
                self.lost = f"a heartbeat on {self._files.uri} took longer than {self.ttl_s:.0f} s"
            elif not exclusive and (late or looked.passed_s > _PROMPT_S):
                time.sleep(_SETTLE_S)
                if not self._is_mine():
                    return
            self._sure = looked

    def _is_mine(self) -> bool:
        """Whether the lease is still that of this driver; else it is `lost`."""
        held = heartbeat.on_file(self._files)
        if held and held["token"] == self.token:
            return True
        if held:
            self.lost = f"the lease on {self._files.uri} was taken over by {heartbeat.who(held)}"
        else:
            self.lost = f"{self._files.uri_of(LEASE_PATH)} was removed or damaged by somebody else"
        return False

    def _record(self) -> bytes:
        return heartbeat.beat(since=self._since, beat_s=self.beat_s, ttl_s=self.ttl_s, token=self.token)

    def _refusal(self, held: dict[str, Any]) -> LeaseHeld:
        age_s = max(0.0, heartbeat.age_s(held))
        return LeaseHeld(
            f"{self._files.uri} is in use by {heartbeat.who(held)} (last heartbeat {age_s:.0f} s ago); wait for it, or "
            f"stop it (kill -INT {held['pid']} on {held['host']}); if that machine is gone, try again in "
            f"{max(1.0, self.ttl_s - age_s):.0f} s",
            elsewhere=held.get("place") != heartbeat.place(),
        )


def driven_by(files: Files, token: str, *, every_s: float = 10.0) -> Files:
    """The files for a worker of the driver whose lease has this token: they raise LeaseLost once another one has it.

    The lease is read when something is to be changed, but only if the last look at it is so many seconds ago.
    """
    looked: Moment | None = None

    def guard() -> None:
        nonlocal looked
        if looked is None or looked.passed_s > every_s:
            now, held = Moment.now(), heartbeat.on_file(files)
            if not held or held["token"] != token:
                other = f"{heartbeat.who(held)} holds" if held else "nobody, or somebody else, holds"
                raise LeaseLost(f"the driver of this worker has lost its lease: {other} {files.uri} now")
            looked = now

    return replace(files, guard=guard)


def _prompt(files: Files, looked: Moment, exclusive: bool) -> Files:
    """The files, which change nothing where the lease was looked at too long ago for that; any time under a lock."""

    def guard() -> None:
        if looked.passed_s > _PROMPT_S:
            raise OutOfReach(f"this process was stopped while it changed {files.uri_of(LEASE_PATH)}; try again")

    return files if exclusive else replace(files, guard=guard)


@contextlib.contextmanager
def _in_turn(files: Files) -> Iterator[bool]:
    """Let one process at a time look at the lease and change it; whether that is sure on this filesystem."""
    if not files.local:
        yield False
        return
    try:
        os.makedirs(files.root, exist_ok=True)
        descriptor = os.open(files.path(".lease.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise os_fault(f"cannot lock {files.uri}", error, "check the folder and who may write there") from error
    try:
        yield _locked(descriptor, files)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, files: Files) -> bool:
    """Lock it; False on a network filesystem without locks. Raises OutOfReach where another process keeps it."""
    for _ in range(int(_LOCK_S / _LOCK_EVERY_S)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            threading.Event().wait(_LOCK_EVERY_S)
        except OSError:
            return False
        else:
            return True
    raise OutOfReach(
        f"cannot lock {files.uri}: another process has kept {files.path('.lease.lock')} locked for {_LOCK_S:.0f} s, so "
        "it is probably stopped; let it go on, or end it (fuser names it)"
    )


def in_ray_job() -> bool:
    """Whether this process is the entrypoint of a Ray job, however that was submitted."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
