"""The commands of docs/cluster.md: those that need nothing but this machine are run as they stand there.

They run in a home of their own: sweeps are smaller, Ray has ports of its own and is ended alone, JOB is the first job
that was submitted. What needs an account, machines or Kubernetes says so in its block, and is read by the command line
that it is for.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import psutil
import pytest
from pyarrow import fs

from orchestrator.cli import msa
from tests.end_to_end.test_object_storage import give_access
from tests.end_to_end.test_readme import write_corpus
from tests.patience import LIMIT_S
from tests.patient_ray import on_path

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "cluster.md"
NEEDS = re.compile(r"# \(needs .*\)")
BUCKET = "my-bucket"
SMALLER = (
    "--trials 2 --epochs 2 --max-concurrent 1 "
    "--set confirm.seeds=1 --set search.startup=1 --set search.pruner.min_epochs=1"
)


@dataclass(frozen=True)
class Block:
    """The commands of one block, and what it says that they need."""

    commands: tuple[str, ...]
    needs: str | None


def blocks(text: str) -> list[Block]:
    found = []
    for content in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        lines = content.splitlines()
        needs = lines.pop(0) if NEEDS.fullmatch(lines[0]) else None
        assert all(line.startswith("$ ") for line in lines), lines
        found.append(Block(tuple(re.sub(r"\s+#.*", "", line[2:]) for line in lines), needs))
    return found


BLOCKS = blocks(GUIDE.read_text())
HERE = [command for block in BLOCKS if not block.needs for command in block.commands]
ELSEWHERE = [command for block in BLOCKS if block.needs for command in block.commands]


def test_the_guide_says_of_each_block_whether_it_runs_here():
    assert len(HERE) >= 11
    assert len(ELSEWHERE) >= 12
    assert len(re.findall("^```", GUIDE.read_text(), flags=re.MULTILINE)) == 2 * len(BLOCKS)  # none of another kind
    assert {command.split()[0] for command in HERE} <= {"RAY_AUTH_MODE=token", "ray", "msa", "chmod"}


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_cannot_run_here_is_read_by_the_command_line_it_is_for(command):
    from ray.scripts.scripts import cli

    name, *arguments = shlex.split(command)
    if name in ("ray", "msa"):
        group = cli if name == "ray" else msa
        read = group.commands[arguments[0]].make_context(arguments[0], arguments[1:])
        if job := read.params.get("arguments"):
            msa.commands[job[0]].make_context(job[0], list(job[1:]))
    files = [word for word in arguments if word.startswith("docs/") or word == "cluster.yaml"]
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("command", ["ray upp cluster.yaml", "msa submit -- sweep cpsl --trails 3", "ray up --yess x"])
def test_a_command_that_does_not_exist_is_found(command):
    with pytest.raises((KeyError, click.ClickException)):
        test_what_cannot_run_here_is_read_by_the_command_line_it_is_for(command)


def test_every_link_of_the_guide_leads_to_a_file_or_a_heading():
    text = GUIDE.read_text()
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", text, flags=re.MULTILINE)}
    for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert target.removeprefix("#") in headings if target[0] == "#" else (GUIDE.parent / target).exists(), target


class Machine:
    """A home of its own, in which commands are typed; the Ray that one of them starts has ports of its own."""

    def __init__(self, home: Path, ray_files: str) -> None:
        self.home, self._ray_files, self.job = home, ray_files, ""
        self.folder = home / "sweeps"
        self.folder.mkdir()
        gcs, self.dashboard, client, agent = _free_ports(4)
        self.ports = (
            f"--port={gcs} --dashboard-port={self.dashboard} --ray-client-server-port={client} "
            f"--dashboard-agent-listen-port={agent} --min-worker-port=0 --max-worker-port=0 --num-cpus=1 "
            f"--object-store-memory=100000000 --temp-dir={ray_files}"
        )

    def __call__(self, command: str) -> str:
        """Run it to its end; what it printed."""
        if command == "ray stop":  # which would end the Ray of others too
            self.stop_ray()
            return ""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "HOME": str(self.home),
            "PATH": f"{on_path(self.home)}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.dashboard}",
            "COLUMNS": "100",
        }
        more = self.ports if "ray start" in command else SMALLER if " sweep " in command else ""
        done = subprocess.run(
            ["bash", "-c", f"{command.replace('JOB', self.job).replace('/tmp', str(self.home))} {more}"],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        if done.returncode:
            pytest.fail(f"{command} {more}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        self.job = self.job or next(iter(re.findall(r"raysubmit_\w+", done.stderr)), "")
        return done.stdout

    def stop_ray(self) -> None:
        """End every process of the Ray that has its files there."""
        for _ in range(3):  # one may start another while it is ended
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    if self._ray_files in " ".join(process.cmdline()):
                        for each in (*process.children(recursive=True), process):
                            with contextlib.suppress(psutil.NoSuchProcess):
                                each.kill()
        shutil.rmtree(self._ray_files, ignore_errors=True)


def _free_ports(num: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(num)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    store.start()
    give_access(monkeypatch, "http://{}:{}".format(*store.get_host_and_port()))
    filesystem, path = fs.FileSystem.from_uri(f"s3://{BUCKET}?allow_bucket_creation=true")
    filesystem.create_dir(path)
    machine = Machine(tmp_path, tempfile.mkdtemp(prefix="guide"))  # its sockets need a short path
    write_corpus(machine.folder / "mosi.pkl")
    yield machine
    machine.stop_ray()
    store.stop()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_of_the_guide_that_needs_only_this_machine_runs(machine):
    stop = HERE.index("ray stop")
    for command in [*HERE[:stop], *HERE[stop + 1 :], HERE[stop]]:  # the jobs after it run on the same head
        printed = machine(command)
        if command.startswith("msa "):
            assert printed, command
    assert (machine.home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
