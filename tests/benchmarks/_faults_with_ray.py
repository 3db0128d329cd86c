"""Faults of a run with Ray: its servers and workers killed one by one, its folders full, gone, too long or shared.

Each kind has a storage of nine toy trials; a try starts a driver on it, does the harm once something is trained, and
looks at how the driver ends. After the tries the storage is run to its end without Ray, and compared with one that
nobody disturbed.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from orchestrator.store import Store
from tests.benchmarks._fault_outcomes import Outcome, block_device, can_mount, fill, mount_again, remount, results
from tests.benchmarks._fault_scenes import (
    NO_SHM,
    Scene,
    another_ray,
    in_mounts,
    joined_ray,
    long_tmpdir,
    no_tmpdir,
    on_a_disk,
    read_only_scratch,
    session,
    small_scratch,
)
from tests.end_to_end import toy_driver, toy_msa
from tests.end_to_end.driver_process import AGENTS, DriverProcess, title
from tests.end_to_end.kill_harness import first_difference
from tests.end_to_end.without_ray import without_ray
from tests.orchestrator.run import fakes
from tests.patience import LIMIT_S, wait_until

LATE_S = 60.0
Harm = Callable[["Scene", DriverProcess], object]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A fault: what is done once the driver has come so far, and how it may end."""

    harm: Harm = lambda scene, driver: None
    heal: Harm = lambda scene, driver: None
    around: Callable[[Scene], AbstractContextManager[object]] = lambda scene: nullcontext()
    phase: str = "training"
    codes: tuple[int, ...] = (3,)
    says: str = ""
    needs_root: bool = False


def attempt(kind: Kind, scene: Scene, outcome: Outcome) -> None:
    """Start a driver, harm it, look."""
    driver = scene.driver(kind.phase if kind.phase in ("encoding", "compaction") else "")
    reached = driver.wait_for(lambda: _reached(scene, driver, kind.phase))
    began = time.monotonic()
    if reached:
        kind.harm(scene, driver)
    else:
        outcome.wrong("never came so far")
    while not driver.over and time.monotonic() - began < 3 * LATE_S:
        outcome.status(str(scene.victim.uri))
        time.sleep(2.0)
    seconds = time.monotonic() - began
    if not driver.over:
        outcome.wrong(f"hangs: {driver.said()[-200:]!r}")
        driver.popen.kill()
    elif seconds > LATE_S and kind.codes != (0,):
        outcome.wrong("late")
    code = driver.popen.wait(LIMIT_S)
    wait_until(lambda: not _left(driver) or time.monotonic() - began > seconds + 10.0)
    for process in _left(driver):
        outcome.wrong(f"left behind: {Path(title(process)).name}")
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for process in driver.processes():  # agents of Ray, which look for its server for a minute
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    lines = driver.said().splitlines()
    outcome.ended(code, kind.codes, lines, seconds, goes_on=str(scene.victim.uri), says=kind.says)
    kind.heal(scene, driver)
    outcome.lease(str(scene.victim.uri))
    outcome.leftovers(scene.folder / "tmp")
    scene.victim.look(driver, killed=False)


def tried(kind: Kind, name: str, tries: int, folder: Path, expected: Any) -> Outcome:
    """So many tries on one storage, and its run to the end."""
    outcome = Outcome(name)
    scene = Scene(folder)
    scene.variables[toy_driver.TOY_TRIAL_S] = str(0.5 if kind.phase == "at once" else 4.0)
    with kind.around(scene):
        for _ in range(tries):
            outcome.tries += 1
            attempt(kind, scene, outcome)
            if outcome.codes.get(0):
                break
        code = without_ray(*toy_msa.arguments(scene.victim.uri), workload=fakes.planted)
        if code:
            outcome.wrong(f"going on ended with {code}")
        elif difference := first_difference(expected, results(scene.victim.uri)):
            outcome.wrong(f"different: {difference}")
        outcome.rows = Store.open(scene.victim.uri).trials().num_rows
    for fault, what in scene.tally.faults.items():
        outcome.wrong(f"{fault}: {what[0]}")
    return outcome


def _reached(scene: Scene, driver: DriverProcess, phase: str) -> bool:
    if phase in ("encoding", "compaction"):
        return (scene.folder / "lingered").exists()
    if phase == "start-up":
        return any(title(process).endswith("raylet") for process in driver.processes())
    return phase == "at once" or len(scene.victim.new_lines(driver)) > 4


def _left(driver: DriverProcess) -> list[psutil.Process]:
    """Processes of a driver that has ended, those aside that look for their server for a minute."""
    return [process for process in driver.processes() if not title(process).startswith(AGENTS)]


# What is done to a driver.


def killed(name: str) -> Harm:
    """SIGKILL to those processes of the driver, or of the Ray that it has joined, whose command has this in it."""

    def harm(scene: Scene, driver: DriverProcess) -> None:
        processes = driver.processes() if not scene.after or scene.other is None else session(scene.other)
        found = [process for process in processes if name in _command(process)]
        assert found, [_command(process) for process in processes]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    return harm


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        return " ".join([Path(words[0]).name, *words[1:8]]) if words else ""
    return ""


def _driver_killed(scene: Scene, driver: DriverProcess) -> None:
    driver.popen.kill()


KINDS: dict[str, Kind] = {
    "the control store (GCS) is killed": Kind(harm=killed("gcs_server --")),
    "the raylet is killed": Kind(harm=killed("raylet --")),
    "the agents are killed": Kind(harm=killed("agent.py"), codes=(0, 1, 3)),  # 1: Ray ends the driver within 0.1 s
    "a worker is killed": Kind(harm=killed("ray::Res"), codes=(0,)),
    "the control store is killed while Ray starts": Kind(harm=killed("gcs_server --"), phase="start-up", codes=(0, 3)),
    "the raylet of a Ray that was joined is killed": Kind(harm=killed("raylet --"), around=joined_ray),
    "the control store of a Ray that was joined is killed": Kind(harm=killed("gcs_server --"), around=joined_ray),
    "the driver is killed while it encodes": Kind(harm=_driver_killed, phase="encoding", codes=(-9,)),
    "the driver is killed while it trains": Kind(harm=_driver_killed, codes=(-9,)),
    "the driver is killed before it compacts": Kind(harm=_driver_killed, phase="compaction", codes=(-9,)),
    "the storage's disk is full": Kind(
        harm=lambda scene, driver: fill(scene.folder / "disk"),
        heal=lambda scene, driver: (scene.folder / "disk" / "ballast").unlink(),
        around=on_a_disk,
        says="No space left on device",
        needs_root=True,
    ),
    "the storage becomes read-only": Kind(
        harm=lambda scene, driver: remount(scene.folder / "disk", "abort"),
        heal=lambda scene, driver: mount_again(scene.folder / "disk"),
        around=lambda scene: on_a_disk(scene, block_device(scene.folder / "disk")),
        says="Read-only file system|Input/output error",
        needs_root=True,
    ),
    "the disk of TMPDIR is full": Kind(
        harm=lambda scene, driver: fill(scene.folder / "tmp"),
        heal=lambda scene, driver: (scene.folder / "tmp" / "ballast").unlink(),
        around=small_scratch,
        codes=(0, 3),
        needs_root=True,
    ),
    "a long TMPDIR": Kind(around=long_tmpdir, phase="at once", codes=(0, 3)),
    "a TMPDIR that is read-only": Kind(around=read_only_scratch, phase="at once", codes=(0, 3), needs_root=True),
    "a TMPDIR that is not there": Kind(around=no_tmpdir, phase="at once", codes=(0, 3)),
    "no /dev/shm": Kind(around=in_mounts(NO_SHM), phase="at once", codes=(0, 3), needs_root=True),
    "a /dev/shm of 64 kB": Kind(
        around=in_mounts("mount -t tmpfs -o size=64k tmpfs /dev/shm"),
        phase="at once",
        codes=(0, 3),
        needs_root=True,
    ),
    "a /dev/shm that is read-only": Kind(
        around=in_mounts("mount -t tmpfs -o ro tmpfs /dev/shm"),
        phase="at once",
        codes=(0, 3),
        needs_root=True,
    ),
    "a Ray cluster of somebody else": Kind(around=another_ray, phase="at once", codes=(0,)),
}


def run(name: str, tries: int | None) -> Outcome:
    """One kind."""
    kind = KINDS[name]
    if kind.needs_root and not can_mount():
        return Outcome(name, skipped="nothing may be mounted here")
    from tests.end_to_end.signal_matrix import undisturbed

    with tempfile.TemporaryDirectory(prefix="f-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        undisturbed(Path(folder, "whole"))
        expected = results(Path(folder, "whole"))
        return tried(kind, name, tries or 2, Path(folder, "0"), expected)
