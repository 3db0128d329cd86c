"""A real SLURM on this machine: a login node that is the controller, too, and compute nodes, each a host of its own.

Debian's packages, without the services that they would start: every daemon has its configuration, key, socket, state
and log in the folder of the test, and ends with it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.hosts import SCRATCH, SHARED, Host, hosts
from tests.cluster.hosts import missing as no_hosts
from tests.patience import wait_until

DAEMONS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "munged": "munge", "sbatch": "slurm-client"}
NODES = ("n1", "n2")
# As a site has it, but for times: a node that is silent is given up after 9 s, and a job that is queued again is let in
# after 5 s (its credential must have expired, and that takes 2 minutes by default).
CONFIGURATION = """
ClusterName=test
SlurmctldHost=login
SlurmUser=root
AuthInfo=socket={folder}/munge/socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/prolog
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=100000,bf_interval=1
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
KillWait=25
SlurmdTimeout=9
NodeName=n[1-2] CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=60
"""


def missing() -> str:
    """Why there can be no SLURM here, or nothing."""
    places = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where Debian has daemons, and users do not look
    absent = [f"{tool} (Debian: {package})" for tool, package in DAEMONS.items() if not shutil.which(tool, path=places)]
    return f"SLURM needs {', '.join(absent)}" if absent else no_hosts()


class Slurm:
    """The cluster, as somebody sees it who has logged in; `shared` is what the nodes call `/mnt`."""

    def __init__(self, login: Host, folder: Path) -> None:
        self.login, self.folder, self.shared = login, folder, folder.parent / "shared"
        self.nodes: dict[str, Host] = {}

    def __call__(
        self, *command: str, environment: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Type a command on the login node, in the shared folder; OSError with what it said if it fails."""
        there = ("env", f"--chdir={SHARED}")
        return self.login.run(
            *_AS_ROOT, *there, *command, environment={**self._environment, **(environment or {})}, check=check
        )

    def fact(self, job: str, name: str) -> str:
        """One of those that `scontrol show job` tells."""
        told = self("scontrol", "--oneliner", "show", "job", job).stdout.split()
        return next(word.partition("=")[2] for word in told if word.startswith(f"{name}="))

    def state_of(self, node: str) -> str:
        """idle, mixed, down, …"""
        return self("sinfo", "-h", "-n", node, "-o", "%T").stdout.strip()

    def folder_of(self, name: str) -> Path:
        """A folder in the shared one."""
        folder = self.shared / name
        folder.mkdir(exist_ok=True)
        return folder

    def power_on(self, node: Host) -> None:
        """Start its daemon; it is idle soon."""
        self.nodes[node.name] = node
        (self.folder / f"spool-{node.name}").mkdir(exist_ok=True)
        self._start(node, "slurmd", "-D", "-N", node.name)

    def until_idle(self) -> None:
        """All nodes are there, and nothing runs on them."""
        idle = f"idle {len(self.nodes)}"
        wait_until(lambda: idle in self("sinfo", "-h", "-o", "%T %D").stdout.splitlines(), idle, seen=self.said)

    def said(self) -> str:
        """The ends of all logs, for a test that fails."""
        return "\n".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*.log")))

    def control(self) -> None:
        """Start what runs on the login node."""
        munge = self.folder / "munge"
        munge.mkdir(mode=0o711)
        (munge / "key").write_bytes(secrets.token_bytes(128))
        (munge / "key").chmod(0o600)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
        self._start(
            self.login,
            "munged",
            "--foreground",
            "--force",
            *(f"--{name}={munge / file}" for name, file in files.items()),
        )
        wait_until((munge / "socket").exists, "munged's socket")
        (self.folder / "state").mkdir()
        prolog = self.folder / "prolog"
        prolog.write_text(f"#!/bin/sh\necho export SLURM_TMPDIR={SCRATCH}/$SLURM_JOB_ID\n")
        prolog.chmod(0o755)
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(folder=self.folder))
        self._start(self.login, "slurmctld", "-D")

    @property
    def _environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def _start(self, host: Host, *command: str) -> None:
        silent = subprocess.DEVNULL
        host.start(*_AS_ROOT, *command, environment=self._environment, stdout=silent, stderr=silent)


_AS_ROOT = ("setpriv", "--regid=0", "--clear-groups")  # a job's credential has a group, which all daemons must know


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """A SLURM whose nodes are idle; afterwards nothing runs any more."""
    with hosts(folder) as network:
        cluster = Slurm(network.host("login"), folder / "slurm")
        cluster.folder.mkdir()
        nodes = [network.host(name) for name in NODES]  # the names of all are known before the controller asks
        cluster.control()
        for node in nodes:
            cluster.power_on(node)
        cluster.until_idle()
        yield cluster
