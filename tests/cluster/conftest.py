"""A Ray cluster on hosts of its own, with a token."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import Host, Network, hosts, missing
from tests.patient_ray import RAY

OBJECT_STORE_BYTES = 200_000_000
# A host that falls silent is given up after 9 s. With Ray's defaults (first check after 5 s, one every 3 s with 10 s to
# answer, 5 failures) it took 65 s.
GIVEN_UP_SOON = {"initial_delay_ms": 1000, "period_ms": 1000, "timeout_ms": 2000, "failure_threshold": 3}
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_prestart_worker_first_driver": "0"}
SETTINGS |= {f"RAY_health_check_{name}": str(n) for name, n in GIVEN_UP_SOON.items()}
WITH_TOKEN = SETTINGS | {"RAY_AUTH_MODE": "token"}


class Cluster:
    """A head that trains nothing, the workers that join it, and whoever else is on the network."""

    def __init__(self, network: Network) -> None:
        self.network, self._token = network, secrets.token_hex(32)
        self.start_head()

    def start_head(self) -> None:
        """Power the head on, and Ray on it."""
        self.head = self.host("head")
        options = ("--port=6379", "--num-cpus=0", f"--dashboard-host={self.head.address}")
        self.head.run(*RAY, "start", "--head", *options, *_options(self.head), environment=WITH_TOKEN)

    def host(self, name: str, *, token: bool = True) -> Host:
        """Power a host on; only with the token it gets into the cluster."""
        host = self.network.host(name)
        if token:
            path = host.home / ".ray" / "auth_token"
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(self._token)
        return host

    def join(self, host: Host, num_cpus: int, environment: dict[str, str] = WITH_TOKEN) -> subprocess.Popen[str]:
        """Start Ray on a worker; its exit code says whether it has joined."""
        command = [*RAY, "start", f"--address={self.head.address}:6379", f"--num-cpus={num_cpus}", *_options(host)]
        return host.start(*command, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _options(host: Host) -> list[str]:
    return [f"--node-ip-address={host.address}", f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="hosts-") as folder, hosts(Path(folder)) as network:
        yield Cluster(network)
