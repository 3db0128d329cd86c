"""`msa submit` on a real head with a token: code of the folder, a cut line, exit codes, Ctrl-C, stop, and no secret."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
import requests

import orchestrator
from tests.end_to_end.conftest import SMALL, finished_trials
from tests.patience import LIMIT_S, wait_until
from tests.patient_ray import RAY

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOKEN = "5ec2e7" * 10
OVERRIDES = [word for each in SMALL for word in ("--set", each)]


@dataclass(frozen=True, kw_only=True)
class Head:
    """A Ray head on this machine."""

    url: str
    address: str
    environment: Mapping[str, str]

    def jobs(self) -> list[dict[str, Any]]:
        """What its dashboard tells of its jobs, to whom has the token."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return requests.get(f"{self.url}/api/jobs/", headers=headers, timeout=LIMIT_S).json()


@contextmanager
def ray_head(mode: str) -> Iterator[Head]:
    """`ray start --head`, with a token or open, in a session of its own and with ports of its own."""
    with TemporaryDirectory(prefix="msa-head-", ignore_cleanup_errors=True) as folder:  # short: it holds sockets
        (Path(folder) / "token").write_text(TOKEN)
        (Path(folder) / "token").chmod(0o600)
        outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment = outside | {
            "HOME": folder,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": mode,
            "RAY_AUTH_TOKEN_PATH": f"{folder}/token",
        }
        names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
            ports = {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}
        started = subprocess.Popen(
            [
                *(*RAY, "start", "--head", "--block", "--num-cpus=2", "--include-dashboard=true"),
                *("--disable-usage-stats", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}"),
                *(f"--{name}={port}" for name, port in ports.items()),
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{ports['dashboard-port']}"
        try:
            wait_until(lambda: answers(url))
            yield Head(url=url, address=f"127.0.0.1:{ports['port']}", environment=environment)
        finally:
            for member in [*psutil.Process(started.pid).children(recursive=True), started]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            started.wait()


def answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return requests.get(f"{url}/nodes?view=summary", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5).ok
    return False


class Submit:
    """`msa submit`, as a user starts it in the folder."""

    def __init__(self, head: Head, folder: Path) -> None:
        self.head, self.folder = head, folder

    def start(self, *arguments: str, address: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", "submit", "--address", address or self.head.url, *arguments],
            cwd=self.folder,
            env={name: value for name, value in self.head.environment.items() if name != "RAY_AUTH_MODE"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err


def job_of(err: str) -> str:
    return next(line for line in err.splitlines() if "Ctrl-C detaches" in line).partition(":")[0]


class Line:
    """A way to the head that can be cut, and mended."""

    def __init__(self, to: str) -> None:
        host, port = to.removeprefix("http://").split(":")
        line = self
        self.cut, self.ends = False, list[socket.socket]()

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                if line.cut:
                    return
                with socket.create_connection((host, int(port))) as there:
                    line.ends += [self.request, there]
                    back = threading.Thread(target=pump, args=(there, self.request), daemon=True)
                    back.start()
                    pump(self.request, there)
                    back.join()

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def is_cut_for(self, seconds: float) -> None:
        self.cut = True
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        time.sleep(seconds)
        self.cut = False

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head("token") as started:
        yield started


@pytest.fixture
def submit(head: Head, tmp_path: Path) -> Submit:
    (tmp_path / "here").mkdir()
    return Submit(head, tmp_path / "here")


@pytest.fixture
def line(head: Head) -> Iterator[Line]:
    made = Line(head.url)
    yield made
    made.close()


def test_a_sweep_runs_as_a_job_with_the_code_of_the_folder_and_is_followed_over_a_cut_line(
    submit: Submit, line: Line, tmp_path: Path
) -> None:
    for name in ("orchestrator", "msa_models", "search_spaces"):
        shutil.copytree(ROOT / name, submit.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for module, before, after in (  # what the driver, and what a worker, does otherwise than the installed one
        ("cli/run.py", 'f"\\nresults: ', 'f"\\nresults of the folder: '),
        ("run/trial.py", "host=platform.node()", 'host="of the folder"'),
    ):
        path = submit.folder / "orchestrator" / module
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b.c commit -qm x"):
        subprocess.run(["git", "-C", str(submit.folder), *command.split()], check=True)
    storage = str(tmp_path / "storage")

    process = submit.start("--", "sweep", "cpsl", "--storage", storage, *OVERRIDES, address=line.url)
    wait_until(lambda: Path(storage, "experiment.json").exists(), process=process)  # its output is being followed
    line.is_cut_for(3.0)
    out, err = process.communicate(timeout=LIMIT_S)

    assert process.returncode == 0, err
    assert err.count("the connection is lost") == err.count("connected again") == 1
    assert f"results of the folder: {storage}" in out
    trials = orchestrator.open(storage).trials
    assert len(trials) == 8
    assert set(trials.host) == {"of the folder"}
    commit = subprocess.run(["git", "-C", str(submit.folder), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert set(trials.git_commit) == {commit.stdout.strip()}

    assert submit("--attach", job_of(err))[:2] == (0, out)  # nothing lost, nothing twice
    assert job_of(err) in str(submit.head.jobs())
    assert TOKEN not in str(submit.head.jobs())
    assert not [path for path in Path(storage).rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]

    code, out, err = submit("--", "sweep", "cpsl", "--storage", storage, "--set", "objective.metric=valid/corr")
    assert code == 2  # of the job, not of `submit`
    assert f"error: {storage}" in out


def test_ctrl_c_detaches_the_job_goes_on_and_stop_ends_it_in_order(submit: Submit, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    process = submit.start("--", "sweep", "cpsl", "--storage", str(storage), *OVERRIDES, "--set", "search.trials=500")
    wait_until(lambda: finished_trials(storage), process=process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    job = job_of(err)
    assert process.returncode == 130
    assert f"detached; {job} goes on" in err

    num_trials = len(finished_trials(storage))
    wait_until(lambda: len(finished_trials(storage)) > num_trials)
    code, out, _ = submit("--stop", job)
    assert code == 130
    assert "interrupted after" in out
    assert f"go on with: msa resume {storage}" in out
    assert not (storage / "lease.json").exists()
    assert submit("--attach", job)[:2] == (130, out)
    code, _, err = submit("--attach", "nobody")
    assert code == 2
    assert job in err


def test_an_open_head_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with ray_head("disabled") as head:
        command = ["sweep", "cpsl", "--storage", str(tmp_path / "storage"), *OVERRIDES]
        code, out, err = Submit(head, tmp_path)("--", *command)
        assert (code, out) == (3, "")
        assert "requires no token and listens beyond loopback" in err
        assert head.jobs() == []
        driver = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *command, "--address", head.address],
            cwd=tmp_path,
            env=head.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert driver.returncode == 3
        assert "requires no token and listens beyond loopback" in driver.stderr
