"""`ray up` on hosts with sshd, by the launcher file for machines of one's own: `python -m tests.cluster.ray_up [FILE]`.

It does what the guide says, with docs/cluster/local.yaml as it is but for addresses, user, and the installation of
Python and packages, for which the environment that runs this is linked: a laptop makes a token and a key, starts the
cluster, submits a sweep through an ssh tunnel, and takes the cluster down. Each command is printed as it is run.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.hosts import ROOT, SHARED, Host, hosts, missing

LAUNCHER = ROOT / "docs" / "cluster" / "local.yaml"
TOOLS = {"sshd": "openssh-server", "ssh": "openssh-client", "rsync": "rsync"}
PATIENCE_S = 180.0
COUNT = "import ray; ray.init('auto'); print('alive:', sum(node['Alive'] for node in ray.nodes()))"
REACH = "import socket; socket.create_connection(('127.0.0.1', 8265), timeout=1).close()"
ENVIRONMENT = {"RAY_AUTH_MODE": "token", "NO_COLOR": "1"}
OVERRIDES = ("data.options={num_train: 64, num_valid: 32, num_test: 32, layout: utterances}", "confirm.seeds=2")
SWEEP = ["sweep", "cpsl", "--storage", f"{SHARED}/run", "--trials", "4", "--epochs", "9", "--max-concurrent", "2"]
SWEEP += [word for each in OVERRIDES for word in ("--set", each)]

_SSHD = """
ListenAddress {host.address}
HostKey {host.home}/host_key
AuthorizedKeysFile {public_key}
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
"""


def launcher(file: Path, head: Host, workers: Sequence[Host]) -> dict[str, Any]:
    """The file for these hosts."""
    config = yaml.safe_load(file.read_text())
    config["provider"] |= {"head_ip": head.address, "worker_ips": [host.address for host in workers]}
    config["auth"]["ssh_user"] = "root"
    kept = [command for command in config["setup_commands"] if "uv" not in command.split()]
    for command in config["setup_commands"]:
        if command not in kept:
            print(f"not run: {command}")
    config["setup_commands"] = [*kept, f"ln -sfn {sys.prefix} ~/msa-sweeps/.venv"]
    return config


@contextlib.contextmanager
def machines() -> Iterator[tuple[Host, list[Host]]]:
    """A laptop, and a head and two workers that let its key in."""
    with tempfile.TemporaryDirectory(prefix="hosts-") as folder, hosts(Path(folder)) as network:
        laptop, *nodes = (network.host(name) for name in ("laptop", "head", "one", "two"))
        key = laptop.home / ".ssh" / "msa_cluster"
        key.parent.mkdir(mode=0o700)
        _say(laptop, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        Path("/run/sshd").mkdir(exist_ok=True)
        for host in nodes:
            host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{host.home}/host_key")
            config = host.folder / "sshd_config"
            config.write_text(_SSHD.format(host=host, public_key=key.with_suffix(".pub")))
            host.start(shutil.which("sshd") or "sshd", "-D", "-f", str(config))
        yield laptop, nodes


def main(launcher_file: Path = LAUNCHER) -> int:
    """0 if everything could be done."""
    if absent := [f"{tool} (Debian: {package})" for tool, package in TOOLS.items() if not shutil.which(tool)]:
        print(f"missing: {', '.join(absent)}")
        return 2
    if reason := missing():
        print(reason)
        return 2
    with machines() as (laptop, nodes):
        file = laptop.home / "local.yaml"
        file.write_text(yaml.safe_dump(launcher(launcher_file, nodes[0], nodes[1:])))
        _say(laptop, "ray", "get-auth-token", "--generate")
        _say(laptop, "chmod", "600", str(laptop.home / ".ray" / "auth_token"))
        _say(laptop, "ray", "up", "-y", str(file))
        if not _until(lambda: _num_alive(laptop, file) == len(nodes)):
            _say(laptop, "ray", "exec", str(file), "tail -n 60 /tmp/ray/session_latest/logs/monitor.*")
            print(f"of {len(nodes)} nodes {_num_alive(laptop, file)} are there after {PATIENCE_S:.0f} s")
            return 1
        _say(laptop, "ray", "exec", str(file), "ray status")
        tunnel = laptop.start("ray", "dashboard", str(file), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _until(lambda: laptop.run("python", "-c", REACH, check=False).returncode == 0)
        _say(laptop, "msa", "submit", "--", *SWEEP)
        _say(laptop, "msa", "submit", "--", "status", f"{SHARED}/run")
        tunnel.kill()
        _say(laptop, "ray", "down", "-y", str(file))
        began = time.monotonic()
        gone = _until(lambda: not any(_raylets(host) for host in nodes))
        left = [host.name for host in nodes if _raylets(host)]
        print(f"hosts with a raylet {time.monotonic() - began:.0f} s later: {', '.join(left) or 'none'}")
        return 0 if gone else 1


def _say(host: Host, *command: str) -> None:
    """Run it as the guide does, and show it with its output. Raises OSError if it fails."""
    print(f"{host.name}$ {shlex.join(command)}", flush=True)
    began = time.monotonic()
    process = host.start(*command, environment=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in process.stdout or ():
        print(line, end="", flush=True)
    print(f"(exit code {process.wait()} after {time.monotonic() - began:.0f} s)\n", flush=True)
    if process.returncode:
        raise OSError(f"{command[0]} failed")


def _until(happens: Callable[[], bool]) -> bool:
    """Whether it does, within our patience."""
    deadline = time.monotonic() + PATIENCE_S
    while not (happened := happens()) and time.monotonic() < deadline:
        time.sleep(2)
    return happened


def _num_alive(laptop: Host, file: Path) -> int:
    said = laptop.run("ray", "exec", str(file), f'python -c "{COUNT}"', environment=ENVIRONMENT).stdout
    found = re.search(r"alive: (\d+)", said)
    return int(found[1]) if found else 0


def _raylets(host: Host) -> list[str]:
    return [name for name in host.run("ps", "-e", "-o", "comm=").stdout.split() if name == "raylet"]


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
