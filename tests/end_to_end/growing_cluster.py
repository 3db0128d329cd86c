"""A Ray cluster on this machine whose autoscaler adds and removes nodes, each with a raylet of its own.

`python -m tests.end_to_end.growing_cluster ADDRESS` watches one, and prints a line in JSON for each change.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.end_to_end.driver_process import ROOT
from tests.patience import wait_until
from tests.patient_ray import RAY

CPUS_OF_HEAD, CPUS_OF_NODE = 1, 2
_HEAD_ID = "f" * 51 + "00000"  # which Ray's provider for tests gives to the head; its nodes count on from there
_NODE_ID = "RAY_OVERRIDE_NODE_ID_FOR_TESTING"


@dataclass(frozen=True)
class Sight:
    """What was there from a moment on: ids of nodes, and states of placement groups."""

    at: float
    nodes: list[str]
    groups: list[str]


class GrowingCluster:
    """Joined by `address`."""

    def __init__(self, folder: Path, *, version: int, max_nodes: int, cpus_of_head: int) -> None:
        port, token = _free_port(), folder / "token"
        token.touch(mode=0o600)
        token.write_text("only-for-this-test-" * 3)
        config = folder / "cluster.json"
        config.write_text(json.dumps(_config(port, max_nodes, cpus_of_head, launch_multiple=version == 2)))
        self.address = f"127.0.0.1:{port}"
        self._seen = folder / "seen"
        self._environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self._joined: list[subprocess.Popen[bytes]] = []
        environment = self._environment | {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_failure_threshold": "2",  # so that a lost node is missed after a second
            "RAY_health_check_period_ms": "500",
        }
        if version == 2:
            environment |= {"RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": _HEAD_ID, _NODE_ID: _HEAD_ID}
        self._out = folder / "head.out"
        with self._out.open("wb") as out:
            self._head = subprocess.Popen(
                [
                    *(*RAY, "start", "--head", "--block"),
                    *(f"--port={port}", f"--num-cpus={cpus_of_head}", "--object-store-memory=100000000"),
                    *(f"--autoscaling-config={config}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"),
                    *(f"--ray-client-server-port={_free_port()}", f"--temp-dir={folder / 'ray'}"),
                ],
                env=os.environ | environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._wait()
        self.join(__name__, self.address, out=self._seen)

    def join(self, module: str, *arguments: str, out: Path) -> subprocess.Popen[bytes]:
        """Start a module in a process that the cluster lets in; it ends with the cluster at the latest."""
        with out.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env=os.environ | self._environment,
                stdout=file,
                stderr=subprocess.DEVNULL if out == self._seen else file,
            )
        self._joined.append(process)
        return process

    @property
    def sights(self) -> list[Sight]:
        """All that was seen of it so far."""
        lines = self._seen.read_text().splitlines()
        return [Sight(**json.loads(line)) for line in lines if line.startswith("{")]  # Ray has its say there too

    def _wait(self) -> None:
        wait_until(
            lambda: "runtime started" in self._out.read_text() or self._head.poll() is not None,
            seen=lambda: self._out.read_text()[-2000:],
        )
        assert self._head.poll() is None, self._out.read_text()[-2000:]

    def kill(self, node_id: str) -> None:
        """SIGKILL for the raylet of a node, and with it for the node."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                if "raylet" in process.name() and process.environ().get(_NODE_ID) == node_id:
                    process.kill()
                    return
        raise AssertionError(f"no raylet of node {node_id}")

    def stop(self) -> None:
        """End all that it started."""
        for process in self._joined:
            process.kill()
            process.wait()
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._head.wait()

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self._head.pid:
                    found.append(process)
        return found


@contextmanager
def growing_cluster(*, version: int, max_nodes: int = 3, cpus_of_head: int = CPUS_OF_HEAD) -> Iterator[GrowingCluster]:
    """A head to begin with, and up to so many nodes of two CPUs; `version` of Ray's autoscaler."""
    with TemporaryDirectory(prefix="msa-", ignore_cleanup_errors=True) as folder:  # short: Ray has sockets in it
        cluster = GrowingCluster(Path(folder), version=version, max_nodes=max_nodes, cpus_of_head=cpus_of_head)
        try:
            yield cluster
        finally:
            cluster.stop()


def _config(port: int, max_nodes: int, cpus_of_head: int, *, launch_multiple: bool) -> dict[str, object]:
    nothing = {"min_workers": 0, "node_config": {}}
    node = {"resources": {"CPU": CPUS_OF_NODE, "object_store_memory": 100_000_000}, "max_workers": max_nodes}
    lists = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "growing",
        "max_workers": max_nodes,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": f"127.0.0.1:{port}",
            "head_node_id": _HEAD_ID,
            "launch_multiple": launch_multiple,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": nothing | {"resources": {"CPU": cpus_of_head}, "max_workers": 0},
            "node": nothing | node,
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{name}_commands": [] for name in lists},
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def watch(address: str) -> None:
    """Look at a cluster five times a second, until killed."""
    import ray
    from ray.util import placement_group_table

    ray.init(address=address, log_to_driver=False)
    last = None
    while True:
        nodes = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])
        groups = sorted(group["state"] for group in placement_group_table().values())
        if (nodes, groups) != last:
            last = nodes, groups
            print(json.dumps({"at": time.time(), "nodes": nodes, "groups": groups}), flush=True)
        time.sleep(0.2)


if __name__ == "__main__":
    watch(sys.argv[1])
