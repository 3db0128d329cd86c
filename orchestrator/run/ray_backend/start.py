"""How Ray is started on this machine: again where it does not come up, with processes that no signal of a job ends."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from orchestrator.run.endings import ANY_RUN
from orchestrator.run.ray_backend.auth import loopback_only
from orchestrator.run.ray_backend.lean import lean, possible
from orchestrator.store.faults import CouldNotRun

SHARED_MEMORY = "/dev/shm"
PATIENCE_S = (60.0, 120.0, 240.0)  # for Ray's own processes on this machine, try by try
_GCS_PATIENCE = "RAY_gcs_server_port_wait_time_s"  # ray 2.60.0: read at each start
PATIENT = {  # ray 2.60.0: how long its processes wait for each other before they give up, and a start with them
    "RAY_agent_register_timeout_ms": "240000",
    "RAY_gcs_rpc_server_connect_timeout_s": "60",
    "RAY_raylet_client_num_connect_attempts": "60",
    "RAY_raylet_start_wait_time_s": "1",  # this one is of each question whether it is there, and they are many
    "RAY_worker_register_timeout_seconds": "240",
}


_RAYS_MARKS = (":job_id:", ":actor_name:", ":task_name:")  # ray 2.60.0: lines of its own in the files of workers
_LENGTH_OF_WORDS = 1_000_000  # characters of a worker's last words


class ClusterError(CouldNotRun):
    """Ray cannot be started or reached, or has no room for a trial.

    The last is no bad input: the same experiment runs on a cluster with larger nodes, and one that grows may get them.
    """


class Services:
    """Ray's own processes on this machine: where its driver is signalled with all others of a job, they live on.

    They have the signals blocked, and pass that on to agents and workers: Ray's servers install handlers, and an
    ignored signal would not stay ignored. So they are ended by SIGKILL, their children with them; none has anything to
    write, and the kernel does it too where the driver is killed.
    """

    def __init__(self) -> None:
        self._running: list[Any] = []
        self._ended = False

    def end(self, *, forever: bool = True) -> None:
        """End them all, and let none start any more, unless there is another try."""
        self._ended = forever
        while self._running:
            self._running.pop().terminate()

    def check(self) -> None:
        """Raise ChildProcessError if one has ended, and was not ended here, without which there is no Ray.

        Seen on a busy machine: a raylet gives its agents 30 s to say where they listen, and then aborts.
        """
        for process in [*self._running]:  # which another thread may end meanwhile
            name = os.path.basename(process.args[0])
            if name in ("gcs_server", "raylet") and process.poll() is not None and not process.ended_here:
                raise ChildProcessError(f"its {name} ended with code {process.returncode}")

    @contextmanager
    def started(self) -> Iterator[None]:
        """What Ray starts in this block is one of them."""
        from ray._private import services  # ray 2.60.0: each of Ray's processes is one of its `ConsolePopen`

        ours, popen = self, services.ConsolePopen

        class Deaf(popen):
            ended_here = False

            def __init__(self, *args: Any, preexec_fn: Callable[[], None], **options: Any) -> None:
                def prepare() -> None:
                    preexec_fn()
                    signal.pthread_sigmask(signal.SIG_BLOCK, ANY_RUN)

                if ours._ended:
                    raise InterruptedError("Ray starts nothing any more")
                super().__init__(*args, preexec_fn=prepare, **options)
                ours._running.append(self)

            def terminate(self) -> None:
                if self.poll() is None:
                    self.send_signal(signal.SIGSTOP)  # so that it starts no more of them
                    children = _children(self.pid)
                    self.kill()
                    for child in children:
                        child.kill()

            def kill(self) -> None:
                self.ended_here = True
                super().kill()

        services.ConsolePopen = Deaf
        try:
            yield
        finally:
            services.ConsolePopen = popen


def start(services: Services, say: Callable[[str], None], num_gpus: int | None = None) -> None:
    """Start Ray here, a second and a third time where it does not come up, each with a longer limit.

    The first time it is a lean one, where that is possible. `num_gpus`: how many GPUs of this machine it uses, None:
    all. Raises ClusterError with what Ray said last, and where there are fewer GPUs.
    """
    import ray

    if num_gpus is not None and (found := _num_gpus()) < num_gpus:
        raise ClusterError(
            f"--gpus {num_gpus}: this machine shows {found} of them (`nvidia-smi`, CUDA_VISIBLE_DEVICES); nothing was "
            "trained"
        )
    _check_shared_memory()
    reason = ""
    for number, patience_s in enumerate(PATIENCE_S, start=1):
        parts = lean() if number == 1 and possible() else nullcontext()
        try:
            with loopback_only(), patient_start(patience_s, services.check), services.started(), parts:
                ray.init(
                    address="local",
                    num_cpus=_num_cpus(),
                    num_gpus=num_gpus,
                    log_to_driver=False,
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",  # ray 2.60.0: the only way to say where a node listens
                )
            return
        except Exception as error:  # a start that takes too long is nothing more than an `Exception`
            reason = " ".join(str(error).split()) or type(error).__name__
        ray.shutdown()
        services.end(forever=False)
        if "AF_UNIX path length" in reason:
            raise ClusterError(f"cannot start Ray on this machine: {reason}; set a shorter TMPDIR, such as /tmp")
        if number < len(PATIENCE_S):
            print(reason, file=sys.stderr, flush=True)  # into the log: words of Ray's, which the last try tells all
            say(f"Ray did not start, logs/ has its reason; trying again, try {number + 1} of {len(PATIENCE_S)}")
    folder = os.environ.get("RAY_TMPDIR") or gettempdir()
    raise ClusterError(
        f"cannot start Ray on this machine, tried {len(PATIENCE_S)} times: {reason}; nothing was trained. Is it "
        f"busy or short of memory (`uptime`, `free -h`), or is the disk of {shlex.quote(folder)} full or read-only "
        f"(`df -h {shlex.quote(folder)}`; TMPDIR names another folder)?"
    )


def _check_shared_memory() -> None:
    """Raise ClusterError without a place for it: Ray 2.60.0 looks there, wherever its objects lie in the end."""
    if sys.platform == "linux" and not os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        what = "may not be written to" if os.path.isdir(SHARED_MEMORY) else "is not there"
        raise ClusterError(
            f"cannot start Ray on this machine: {SHARED_MEMORY} {what}, where Ray has its shared memory; mount it "
            f"(`mount -t tmpfs tmpfs {SHARED_MEMORY}`, of a container --shm-size or --ipc=host); nothing was trained"
        )


def session_folder() -> Path | None:
    """Where the Ray that was started here has its files."""
    from ray._private import worker  # ray 2.60.0

    node = worker._global_node  # ray 2.60.0
    return None if node is None else Path(node.get_session_dir_path())


def clear(session: Path, *, keep: bool) -> None:
    """Of a Ray that has ended: what its workers have printed goes to stderr, which is the log by now; its files go.

    `keep`: where something went wrong they stay, for who wants to know what Ray's servers had to say.
    """
    for path in sorted(session.glob("logs/worker-*.*")):
        with suppress(OSError):
            text = path.read_text(errors="replace")
            lines = [line for line in text.splitlines() if not line.startswith(_RAYS_MARKS)]
            if lines:
                said = "\n".join(lines)[-_LENGTH_OF_WORDS:]
                print(f"== {path.name}\n{said}", file=sys.stderr, flush=True)
    if keep:
        print(f"Ray's own files: {session}", file=sys.stderr, flush=True)
    else:
        shutil.rmtree(session, ignore_errors=True)


@contextmanager
def patient_start(patience_s: float = PATIENCE_S[-1], check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let a Ray that is started in this block have so long to come up instead of 30 s, for busy machines.

    `check` is called between two looks, and raises where waiting is in vain.
    """
    from ray._private import services  # ray 2.60.0: `Node` asks this for its raylet, for 30 s

    ask, until = services.get_node, time.monotonic() + patience_s
    os.environ[_GCS_PATIENCE] = str(round(patience_s))

    def ask_patiently(gcs_address: str, node_id: str) -> Any:
        while True:
            try:
                return ask(gcs_address, node_id)
            except RuntimeError:  # it is not there yet
                check()
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    services.get_node = ask_patiently
    try:
        yield
    finally:
        services.get_node = ask
        os.environ.pop(_GCS_PATIENCE, None)


def _num_cpus() -> int | None:
    """What SLURM gives this job of the machine's CPUs; None, which Ray takes as all of them, outside of one."""
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return int(given) if given.isdigit() else None


def _num_gpus() -> int:
    """How many GPUs this process may use."""
    from ray._private.accelerators import get_accelerator_manager_for_resource  # ray 2.60.0: as its own start counts

    gpus: Any = get_accelerator_manager_for_resource("GPU")
    visible = gpus.get_current_process_visible_accelerator_ids()
    found = gpus.get_current_node_num_accelerators()
    return found if visible is None else min(found, len(visible))


def _children(pid: int) -> list[Any]:
    """All processes below this one."""
    from ray._private import services  # ray 2.60.0: which brings its own psutil

    psutil: Any = vars(services)["psutil"]
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
