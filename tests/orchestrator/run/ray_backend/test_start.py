"""Starts of a Ray that fails once, twice or always, and what signals do to its processes; no Ray is started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.run.endings import ANY_RUN
from orchestrator.run.ray_backend import cluster, start
from orchestrator.run.ray_backend.start import ClusterError, Services
from tests.patience import LIMIT_S, wait_until

# As Ray's servers do, it has a handler of its own for SIGTERM; and it has a child, as the raylet has its workers.
SERVER = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
child = [sys.executable, "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(child, stdout=subprocess.DEVNULL).pid, flush=True)
print(sys.stdin.read())
"""


class Starts:
    """What stands for `ray.init`: fails so often, each time with a process that it leaves behind."""

    def __init__(self, num_failures: int) -> None:
        self.num_failures, self.patience_s, self.left = num_failures, list[int](), list[Any]()

    def __call__(self, **options: Any) -> None:
        from ray._private import services

        self.patience_s.append(int(os.environ["RAY_GCS_PATIENCE"]))
        self.left.append(serve(services))
        if len(self.left) <= self.num_failures:
            raise Exception("The current node timed out during startup.\nThis could happen")


def serve(services: Any) -> Any:
    pipe = subprocess.PIPE
    return services.ConsolePopen(
        [sys.executable, "-c", SERVER], preexec_fn=lambda: None, stdin=pipe, stdout=pipe, text=True
    )


def code(process: Any) -> int:
    """How it ended."""
    process.communicate(timeout=LIMIT_S)
    return process.returncode


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    import ray

    monkeypatch.setattr(start, "_GCS_PATIENCE", "RAY_GCS_PATIENCE")
    monkeypatch.setenv("RAY_GCS_PATIENCE", "")
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(cluster, "_head", lambda: "127.0.0.1:1")
    return ray


@pytest.fixture
def services() -> Iterator[Services]:
    made = Services()
    yield made
    made.end()


@pytest.mark.parametrize("num_failures", [0, 1, 2])
def test_a_ray_that_does_not_come_up_is_started_again_with_a_longer_limit(
    ray: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    services: Services,
    num_failures: int,
) -> None:
    starts, said = Starts(num_failures), list[str]()
    monkeypatch.setattr(ray, "init", starts)
    with cluster.cluster(None, services, said.append) as head:
        *left, running = starts.left
        assert head == "127.0.0.1:1"
        assert running.poll() is None
        assert [code(process) for process in left] == num_failures * [-signal.SIGKILL]
    services.end()
    assert code(running) == -signal.SIGKILL
    assert starts.patience_s == [60, 120, 240][: num_failures + 1]
    assert said == [
        f"Ray did not start, logs/ has its reason; trying again, try {number} of 3"
        for number in range(2, num_failures + 2)
    ]
    logged = "The current node timed out during startup. This could happen\n"  # where a run has its standard error
    assert capsys.readouterr().err == num_failures * logged


def test_a_ray_that_never_comes_up_is_one_clear_line_and_leaves_nothing_behind(
    ray: Any, monkeypatch: pytest.MonkeyPatch, services: Services
) -> None:
    starts = Starts(99)
    monkeypatch.setattr(ray, "init", starts)
    line = (
        r"^cannot start Ray on this machine, tried 3 times: The current node timed out during startup\. This could "
        r"happen; nothing was trained\. Is it busy"
    )
    with pytest.raises(ClusterError, match=line), cluster.cluster(None, services, lambda line: None):
        pytest.fail("it has started")
    assert [code(process) for process in starts.left] == 3 * [-signal.SIGKILL]


@pytest.mark.skipif(sys.platform != "linux", reason="Ray has its shared memory elsewhere")
@pytest.mark.parametrize(("there", "what"), [(False, "is not there"), (True, "may not be written to")])
def test_without_a_place_for_shared_memory_ray_is_not_even_tried(
    ray: Any, monkeypatch: pytest.MonkeyPatch, services: Services, tmp_path: Path, there: bool, what: str
) -> None:
    place = tmp_path / "shm"
    if there:
        place.mkdir()
        monkeypatch.setattr(os, "access", lambda path, mode: path != str(place))  # as of a mount that is read-only
    monkeypatch.setattr(start, "SHARED_MEMORY", str(place))
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("it was tried"))
    with pytest.raises(ClusterError, match=rf"^cannot start Ray on this machine: {place} {what}, where Ray has its"):
        start.start(services, print)


@pytest.mark.slow
def test_no_signal_of_a_job_ends_a_service_and_its_end_takes_its_children_with_it() -> None:
    from ray._private import services

    ours = Services()
    with ours.started():
        server = serve(services)
    child = psutil.Process(int(server.stdout.readline()))
    for number in ANY_RUN:
        server.send_signal(number)
        child.send_signal(number)
    out, _ = server.communicate("it lives", timeout=LIMIT_S)
    assert (out, server.returncode) == ("it lives\n", 0)
    assert child.is_running()
    child.kill()
    with ours.started():
        server = serve(services)
    child = psutil.Process(int(server.stdout.readline()))
    ours.end()
    assert code(server) == -signal.SIGKILL
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    with ours.started(), pytest.raises(InterruptedError):
        serve(services)


def test_a_ray_that_comes_up_late_is_waited_for_and_one_that_does_not_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray._private import services

    def come_up_late(gcs_address: str, node_id: str) -> dict[str, str]:
        asked.append(node_id)
        if len(asked) < 3:
            raise RuntimeError("no node of this id yet")
        return {"node_id": node_id}

    asked = list[str]()
    monkeypatch.setattr(services, "get_node", come_up_late)
    with start.patient_start():
        assert services.get_node("127.0.0.1:1", "one") == {"node_id": "one"}
    assert services.get_node is come_up_late
    asked.clear()
    with start.patient_start(0.0), pytest.raises(RuntimeError, match="yet"):
        services.get_node("127.0.0.1:1", "one")


def test_a_raylet_that_ends_while_it_is_waited_for_is_not_waited_for_any_longer(
    services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ray._private import services as of_ray

    def ask(gcs_address: str, node_id: str) -> None:
        raise RuntimeError("no node of this id yet")

    monkeypatch.setattr(of_ray, "get_node", ask)
    raylet = tmp_path / "raylet"
    raylet.write_text("#!/bin/sh\nexit 7\n")
    raylet.chmod(0o755)
    with services.started():
        of_ray.ConsolePopen([str(raylet)], preexec_fn=lambda: None)
    with (
        start.patient_start(LIMIT_S, services.check),
        pytest.raises(ChildProcessError, match="its raylet ended with code 7"),
    ):
        of_ray.get_node("127.0.0.1:1", "one")


def test_a_server_that_is_ended_here_is_not_missed(services: Services, tmp_path: Path) -> None:
    from ray._private import services as of_ray

    raylet = tmp_path / "raylet"
    raylet.symlink_to("/bin/sleep")
    for ends in ("terminate", "kill"):
        with services.started():
            server = of_ray.ConsolePopen([str(raylet), "600"], preexec_fn=lambda: None)
        services.check()
        getattr(server, ends)()
        server.wait(LIMIT_S)
        services.check()
    with services.started():
        server = of_ray.ConsolePopen([str(raylet), "600"], preexec_fn=lambda: None)
    os.kill(server.pid, signal.SIGKILL)
    server.wait(LIMIT_S)
    with pytest.raises(ChildProcessError, match="its raylet ended with code -9"):
        services.check()


@pytest.mark.parametrize(("given", "num_cpus"), [("3", 3), (None, None)])
def test_a_ray_inside_of_a_job_of_slurm_has_the_cpus_of_the_job(
    ray: Any, monkeypatch: pytest.MonkeyPatch, services: Services, given: str | None, num_cpus: int | None
) -> None:
    asked = list[Any]()
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options["num_cpus"]))
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    if given is not None:
        monkeypatch.setenv("SLURM_CPUS_ON_NODE", given)
    start.start(services, print)
    assert asked == [num_cpus]


@pytest.mark.parametrize(
    ("visible", "wanted", "given"),
    [
        ("", None, None),
        (None, 4, 4),
        (None, 2, 2),
        ("0,2,3", 3, 3),
        (None, 0, 0),
        (None, 5, 4),
        ("1", 2, 1),
        ("", 1, 0),
    ],
)
def test_a_ray_has_the_gpus_that_it_is_to_have_where_the_machine_has_as_many(
    ray: Any,
    monkeypatch: pytest.MonkeyPatch,
    services: Services,
    visible: str | None,
    wanted: int | None,
    given: int | None,
) -> None:
    from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

    asked = list[Any]()
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options["num_gpus"]))
    monkeypatch.setattr(NvidiaGPUAcceleratorManager, "get_current_node_num_accelerators", lambda: 4)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if wanted == given:
        start.start(services, print, wanted)
        assert asked == [wanted]
    else:
        with pytest.raises(ClusterError, match=f"^--gpus {wanted}: this machine shows {given} of them"):
            start.start(services, print, wanted)
        assert not asked


@pytest.mark.parametrize("keep", [False, True])
def test_what_workers_have_printed_is_told_and_the_files_of_a_ray_that_went_well_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: bool
) -> None:
    session = tmp_path / "session"
    files = {
        "worker-1-01000000-7.err": ":job_id:01000000\n:actor_name:Worker\nFatal Python error: Segmentation fault\n",
        "worker-1-01000000-7.out": ":job_id:01000000\nhello\n",
        "worker-2-01000000-8.out": ":job_id:01000000\n",
        "raylet.out": "nothing of a worker",
    }
    for name, text in files.items():
        path = session / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    start.clear(session, keep=keep)
    out, said = capsys.readouterr()
    assert said == (
        "== worker-1-01000000-7.err\nFatal Python error: Segmentation fault\n== worker-1-01000000-7.out\nhello\n"
        + f"Ray's own files: {session}\n" * keep
    )
    assert (out, session.exists()) == ("", keep)
