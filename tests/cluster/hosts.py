"""Several hosts on one machine: each has a network address, name, processes and memory of its own (Linux namespaces).

A host is one process, the first of its process namespace, that reads a pipe. When the pipe is closed here, or we are
killed, it ends, the kernel kills all others in its namespace, and its network goes with them: a power failure, and
nothing to clean up. All hosts hang on one bridge, which is in a namespace too: nothing of the machine's own network is
touched, and any number of tests may use the same addresses at once.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.patience import LIMIT_S

ROOT = Path(__file__).parents[2]
SHARED = "/mnt"  # in each host, the folder that all of them share: what NFS is to real ones
SCRATCH = "/tmp/ray"  # in each host, a folder of its own: Ray's sessions and temporary files
BOOT_ID = "/proc/sys/kernel/random/boot_id"  # in each host, new at each power-on: all have one kernel
SUBNET = "10.11.12"
FIRST_GROUP = 7000  # what a host writes into the shared folder has a group of its own, by which its writer is known
READY = "ready"
TOOLS = dict.fromkeys(("unshare", "nsenter", "setpriv"), "util-linux")
TOOLS |= {"ip": "iproute2", "mount": "mount", "hostname": "hostname", "ps": "procps"}

_SWITCH = f"ip link add hub type bridge && ip link set hub up && echo {READY} && exec cat"
# Whoever loses its parent becomes a child of the first process; that ignores SIGCHLD, so the kernel buries them.
_BOOT = f"""
hostname "$1" && mount --bind "$2" {SCRATCH} && mount --bind "$3" {SHARED} && mount --bind "$4" /etc/hosts &&
mount --bind "$5" /etc/passwd && mount --bind "$6" {BOOT_ID} && mount -t tmpfs tmpfs /dev/shm && ip link set lo up &&
echo {READY} && exec env --ignore-signal=CHLD cat
"""


def missing() -> str:
    """Why there can be no hosts here, or nothing."""
    if absent := [f"{tool} (Debian: {package})" for tool, package in TOOLS.items() if not shutil.which(tool)]:
        return f"hosts need {', '.join(absent)}"
    try:
        with TemporaryDirectory() as folder, hosts(Path(folder)) as network:
            network.host("probe")
    except OSError as error:
        return f"hosts need Linux namespaces, which only root may make: {error}"
    return ""


class Host:
    """One host, from its power-on to its power-off."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.name, self.address, self.group = name, f"{SUBNET}.{number}", FIRST_GROUP + number
        self._network, self._started = network, list[subprocess.Popen[str]]()
        self.folder = network.folder / name  # stays when the host is off, as a disk does
        self.home, scratch = self.folder / "home", self.folder / "scratch"
        for folder in (self.home, scratch, Path(SCRATCH)):
            folder.mkdir(parents=True, exist_ok=True)
        spaces = ("--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        passwd = self.folder / "passwd"
        passwd.write_text(re.sub("(?m)^(root:.*:).*(:.*)$", rf"\1{self.home}\2", Path("/etc/passwd").read_text()))
        boot_id = self.folder / "boot_id"
        boot_id.write_text(f"{uuid.uuid4()}\n")
        mounted = map(str, (scratch, network.shared, network.names, passwd, boot_id))
        self._first, self._pid = _booted(["unshare", *spaces, "sh", "-c", _BOOT, "sh", name, *mounted])
        try:
            network.connect(self._pid, name)
            self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
            # The same card at each power-on: the others remember to whom an address belongs, for most of a minute.
            self.run("ip", "link", "set", "eth0", "address", f"02:00:00:00:00:{number:02x}", "up")
        except BaseException:
            self.power_off()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """What a login there would set; nothing of ours."""
        path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": str(self.home), "TMPDIR": SCRATCH, "LANG": "C.UTF-8"}

    def start(
        self,
        *command: str,
        environment: dict[str, str] | None = None,
        folder: Path = ROOT,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> subprocess.Popen[str]:
        """A process there, in this folder; to kill what is returned is to kill it."""
        enter = ["nsenter", f"--target={self._pid}", "--net", "--uts", "--ipc", "--mount", "--pid"]
        become = ["setpriv", f"--regid={self.group}", "--clear-groups", "--pdeathsig=KILL", "env", f"--chdir={folder}"]
        process = subprocess.Popen(
            [*enter, *become, *command],
            text=True,
            env=self.environment | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        self._started.append(process)
        return process

    def run(
        self, *command: str, environment: dict[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end; OSError with what it said if it fails."""
        pipe = subprocess.PIPE
        with self.start(*command, environment=environment, stdout=pipe, stderr=pipe) as process:
            try:
                out, err = process.communicate(timeout=LIMIT_S)
            finally:
                process.kill()
        if check and process.returncode:
            raise OSError(f"{' '.join(command)} on {self.name}: exit code {process.returncode}: {out}{err}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @property
    def received_bytes(self) -> int:
        """All that has come over its link."""
        link = json.loads(self.run("ip", "-json", "-stats", "link", "show", "eth0").stdout)[0]
        return link["stats64"]["rx"]["bytes"]

    def power_off(self) -> None:
        """SIGKILL to all processes, after the cable is gone: nobody hears a goodbye. Returns when they are dead."""
        with contextlib.suppress(OSError):  # it was unplugged before
            self._network.unplug(self.name)
        for process in (self._first, *self._started):
            _ended(process)


class Network:
    """The bridge, and the hosts on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.shared, self.names = folder, folder / "shared", folder / "names"
        self.shared.mkdir()
        self.names.write_text("127.0.0.1 localhost\n")
        self._hosts: dict[str, Host] = {}
        self._switch, self._pid = _booted(["unshare", "--net", "sh", "-c", _SWITCH])

    def host(self, name: str) -> Host:
        """Power a host on; one of the same name before it had the same address and disk."""
        names = list(dict.fromkeys([*self._hosts, name]))
        host = self._hosts[name] = Host(self, name, names.index(name) + 1)
        if f" {name}\n" not in self.names.read_text():
            with self.names.open("a") as names_of_all:
                names_of_all.write(f"{host.address} {name}\n")
        return host

    def connect(self, pid: int, name: str) -> None:
        """A cable between the bridge and this process's namespace, where it is `eth0`."""
        self._ip("link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self._ip("link", "set", "dev", name, "master", "hub", "up")

    def unplug(self, name: str) -> None:
        """Take the cable away: what is sent gets lost, and nobody is told."""
        self._ip("link", "delete", "dev", name)

    def close(self) -> None:
        """Power everything off."""
        with ExitStack() as all_of_it:
            all_of_it.callback(_ended, self._switch)
            for host in self._hosts.values():
                all_of_it.callback(host.power_off)

    def _ip(self, *arguments: str) -> None:
        command = ["nsenter", f"--target={self._pid}", "--net", "ip", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextmanager
def hosts(folder: Path) -> Iterator[Network]:
    """A network without hosts yet; their disks are in this folder. Afterwards nothing runs any more."""
    network = Network(folder)
    try:
        yield network
    finally:
        network.close()


def _booted(command: list[str]) -> tuple[subprocess.Popen[str], int]:
    """A process that says it is ready, and the id of the one that lives in the new namespaces."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    if process.stdout.readline().strip() != READY:
        raise OSError(f"{command[0]}: {process.communicate()[1].strip()}")
    inner = psutil.Process(process.pid).children()
    return process, inner[0].pid if inner else process.pid


def _ended(process: subprocess.Popen[str]) -> None:
    """Its pipes closed, at which a first process ends, and with it the others; whoever started it waits for all."""
    with process:
        pass
