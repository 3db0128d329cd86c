"""Where a driver with Ray runs for `_faults_with_ray`: on disks of its own, in other mounts, beside another Ray."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.benchmarks._fault_outcomes import mounted, remount
from tests.end_to_end import toy_driver, toy_msa
from tests.end_to_end.driver_process import DriverProcess
from tests.end_to_end.victim import Tally, Victim
from tests.patience import wait_until
from tests.patient_ray import RAY

TOY_MSA = (sys.executable, "-m", toy_msa.__name__)


@dataclass
class Scene:
    """One storage, and what its drivers are started with."""

    folder: Path
    before: tuple[str, ...] = ()  # words in front of the command
    after: tuple[str, ...] = ()  # words behind it
    variables: dict[str, str] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    other: int | None = None  # the session of a Ray that is there already

    def __post_init__(self) -> None:
        self.victim = Victim(self.folder, "sweep", 1, random.Random(0), self.tally)

    def driver(self, phase: str = "") -> DriverProcess:
        """Start one, which lingers in this phase, if any."""
        lingered = self.folder / "lingered"
        lingered.unlink(missing_ok=True)
        variables = {toy_msa.TOY_LINGERS: phase, toy_msa.TOY_LINGERED: str(lingered)}
        words = toy_msa.arguments(self.victim.uri)
        return DriverProcess(
            self.folder, *words, *self.after, command=[*self.before, *TOY_MSA], variables=variables | self.variables
        )


@contextmanager
def on_a_disk(scene: Scene, disk: AbstractContextManager[None] | None = None) -> Iterator[None]:
    with disk or mounted(scene.folder / "disk", "2m"):
        scene.victim.uri = scene.folder / "disk" / "storage"
        yield


@contextmanager
def small_scratch(scene: Scene) -> Iterator[None]:
    with mounted(scene.folder / "tmp", "64m"):
        yield


@contextmanager
def read_only_scratch(scene: Scene) -> Iterator[None]:
    with mounted(scene.folder / "tmp", "1m"):
        remount(scene.folder / "tmp", "ro")
        yield


def in_mounts(script: str) -> Callable[[Scene], AbstractContextManager[object]]:
    """The driver sees other mounts than anybody else."""

    def around(scene: Scene) -> AbstractContextManager[object]:
        scene.before = ("unshare", "-m", "sh", "-ec", f'{script}\nexec "$@"', "sh")
        return nullcontext()

    return around


def long_tmpdir(scene: Scene) -> AbstractContextManager[object]:
    folder = scene.folder / "tmp" / ("a-long-name-of-a-folder-" * 4) / "job.1234567"
    folder.mkdir(parents=True)
    scene.variables |= {"TMPDIR": str(folder), "RAY_TMPDIR": str(folder)}
    return nullcontext()


def no_tmpdir(scene: Scene) -> AbstractContextManager[object]:
    nowhere = str(scene.folder / "nowhere")
    scene.variables |= {"TMPDIR": nowhere, "RAY_TMPDIR": nowhere}
    return nullcontext()


@contextmanager
def another_ray(scene: Scene, *, joined: bool = False) -> Iterator[None]:
    """A Ray of somebody else, found by the address that Ray writes down, and by a variable."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address, scratch = f"127.0.0.1:{port}", scene.folder / "tmp"
    scratch.mkdir(exist_ok=True)
    token = scene.folder / "token"
    token.touch(mode=0o600)
    token.write_text("0" * 32)
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment = os.environ | {"RAY_TMPDIR": str(scratch), "TMPDIR": str(scratch)} | access
    environment |= scene.variables | {toy_driver.TOY_LOG: str(scene.folder / "epochs.log")}  # of its workers
    words = [*RAY, "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    words += ["--include-dashboard=false", "--disable-usage-stats"]
    out = scene.folder / "head.out"
    with out.open("wb") as file:
        head = subprocess.Popen(words, stdout=file, stderr=file, env=environment, start_new_session=True, text=True)
    try:
        scene.other = head.pid
        wait_until(lambda: "runtime started" in out.read_text(), process=head, seen=out.read_text)
        scene.variables |= {"RAY_ADDRESS": address}
        if joined:
            scene.variables |= access
            scene.after = ("--address", address)
        yield
        if not joined and head.poll() is not None:
            scene.tally.faults["harmed the other cluster"].append(f"it ended with {head.returncode}")
    finally:
        for process in [head, *session(head.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait()


def joined_ray(scene: Scene) -> AbstractContextManager[object]:
    return another_ray(scene, joined=True)


def session(number: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == number:
                found.append(process)
    return found


NO_SHM = """
new=$(mktemp -d); mount -t tmpfs tmpfs $new
for each in null zero full random urandom tty; do touch $new/$each; mount --bind /dev/$each $new/$each; done
ln -s /proc/self/fd $new/fd
mount --move $new /dev"""
