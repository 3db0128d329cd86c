"""The lease: one driver per storage at a time, known by a heartbeat in `lease.json`.

A second driver is refused, and told who holds the storage. A lease is taken over at once if this machine can tell that
its process is gone; if its heartbeat is older than `ttl_s` it is first watched for a beat and a half, since clocks of
two hosts differ and suspended processes wake. On a local folder acquiring is exclusive: `flock` orders those who want
the lease, and a hard link creates it. NFS without locks and object stores (no conditional PUT) give less: the lease is
written, read back after a moment, and of two drivers that overlap one finds out at its next heartbeat that it lost.

Of a driver on another host nobody can tell at once that it is gone: one that finds its lease says so, waits until that
is free or stale, a minute, and is refused only if it still beats then. So does a driver that runs as a Ray job whoever
holds the lease: it may be the next attempt of one that is about to end, with nobody there to try again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from msa_models.printable import one_line
from orchestrator.store import heartbeat
from orchestrator.store.experiment_file import LEASE_PATH
from orchestrator.store.faults import StorageError, os_fault
from orchestrator.store.files import Files

_SETTLE_S = 1.0
_WATCH_BEATS = 1.5


class LeaseHeld(StorageError):
    """Another driver works on this storage; `elsewhere`: on a host of which this one cannot tell whether it lives."""

    def __init__(self, message: str, *, elsewhere: bool = False) -> None:
        super().__init__(message)
        self.elsewhere = elsewhere


class Lease:
    """Held from `with` to its end. Watch `lost`: a driver whose lease was taken must stop, another one is at work."""

    def __init__(self, files: Files, *, ttl_s: float = 60.0, beat_s: float = 10.0) -> None:
        if not 0 < beat_s < ttl_s:
            raise ValueError(f"a lease beats within its time to live; got beat_s={beat_s}, ttl_s={ttl_s}")
        self.files, self.ttl_s, self.beat_s = files, float(ttl_s), float(beat_s)
        self.lost = ""  # the reason, once it is lost
        self._token = uuid.uuid4().hex
        self._since = ""
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

    def _release(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self.beat_s)
        with contextlib.suppress(StorageError), _in_turn(self.files):
            if (heartbeat.on_file(self.files) or {}).get("token") == self._token:
                self.files.delete(LEASE_PATH)

    def _take(self, patient_until: float) -> None:
        watched: dict[str, Any] | None = None
        waiting = False
        while True:
            try:
                if self._try_to_take(watched):
                    return
                watched = heartbeat.on_file(self.files)
                time.sleep(_WATCH_BEATS * (watched["beat_s"] if watched else 0.0))
            except LeaseHeld as error:
                if time.monotonic() > patient_until or not (error.elsewhere or in_ray_job()):
                    raise
                if not waiting:
                    used = str(error).partition("; wait for it")[0]
                    print(
                        one_line(f"{used}; waiting {self.ttl_s:.0f} s for its end"),
                        file=sys.stderr,
                        flush=True,
                    )
                waiting, watched = True, None
                time.sleep(min(self.beat_s, 1.0))

    def _try_to_take(self, watched: dict[str, Any] | None) -> bool:
        """Take the lease if it is free; False: it looks stale but is to be watched first."""
        with _in_turn(self.files) as exclusive:
            if not self.files.create(LEASE_PATH, self._record()):
                held = heartbeat.on_file(self.files)
                if held is not None and not heartbeat.gone(held):
                    if not heartbeat.stale(held, self.ttl_s) or (watched is not None and held != watched):
                        raise self._refusal(held)
                    if watched is None:
                        return False
                self.files.write(LEASE_PATH, self._record())
            elif self.files.local:
                exclusive = True
        if not exclusive:
            time.sleep(_SETTLE_S)
            held = heartbeat.on_file(self.files)
            if held is not None and held.get("token") != self._token:
                raise self._refusal(held)
        return True

    def _beat_on(self) -> None:
        last_beat = time.monotonic()
        while not self.lost and not self._stop.wait(self.beat_s):
            try:
                with _in_turn(self.files):
                    held = heartbeat.on_file(self.files)
                    if held is not None and held.get("token") == self._token:
                        self.files.write(LEASE_PATH, self._record())
                        last_beat = time.monotonic()
                    elif held is not None:
                        self.lost = f"the lease on {self.files.uri} was taken over by {heartbeat.who(held)}"
                    else:
                        self.lost = f"{self.files.uri_of(LEASE_PATH)} was removed or damaged by somebody else"
            except StorageError as error:
                if time.monotonic() - last_beat > self.ttl_s:
                    self.lost = f"no heartbeat could be written for {self.ttl_s:.0f} s ({error})"

    def _record(self) -> bytes:
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_started": heartbeat.process_started(os.getpid()),
            "place": heartbeat.place(),
            "job": os.environ.get("SLURM_JOB_ID", ""),
            "since": self._since,
            "beat": heartbeat.now().isoformat(),
            "beat_s": self.beat_s,
            "ttl_s": self.ttl_s,
            "token": self._token,
        }
        return json.dumps(holder, indent=1).encode()

    def _refusal(self, held: dict[str, Any]) -> LeaseHeld:
        age_s = max(0.0, heartbeat.age_s(held))
        return LeaseHeld(
            f"{self.files.uri} is in use by {heartbeat.who(held)} (last heartbeat {age_s:.0f} s ago); wait for it, or "
            f"stop it (kill -INT {held['pid']} on {held['host']}); if that machine is gone, try again in "
            f"{max(1.0, self.ttl_s - age_s):.0f} s",
            elsewhere=held.get("place") != heartbeat.place(),
        )


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
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a network filesystem without locks
            sure = False
        else:
            sure = True
        yield sure
    finally:
        os.close(descriptor)


def in_ray_job() -> bool:
    """Whether this process is the entrypoint of a Ray job, however that was submitted."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
