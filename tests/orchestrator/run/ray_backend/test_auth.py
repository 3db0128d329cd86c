"""A cluster that others can reach requires a token; it is asked, and what it answers is one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest

from orchestrator.run.ray_backend import auth
from orchestrator.run.ray_backend.auth import AccessError, AddressError
from orchestrator.run.ray_backend.cluster import ClusterError, cluster
from tests.patience import LIMIT_S

TOKEN = "0123456789abcdef" * 4


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without a token; what a check changes of this process is as before afterwards."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # recorded, so that it is undone even where the check sets it
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("HOME", str(tmp_path))
    yield tmp_path
    monkeypatch.undo()
    raylet = import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@pytest.fixture
def head() -> Iterator[Head]:
    server = Head()
    yield server
    server.stop()


class Head:
    """Control store and dashboard of a head with one node: which token they ask for, and where it listens."""

    def __init__(self, tls: grpc.ServerCredentials | None = None) -> None:
        self.token, self.node, self.num_refused = TOKEN, "10.0.0.5", 0
        self._messages, services = (import_module(f"ray.core.generated.gcs_service_pb2{end}") for end in ("", "_grpc"))
        self._states = import_module("ray.core.generated.gcs_pb2").GcsNodeInfo
        self._store = grpc.server(futures.ThreadPoolExecutor(1))
        services.add_NodeInfoGcsServiceServicer_to_server(self, self._store)
        everywhere = "0.0.0.0:0"
        port = self._store.add_secure_port(everywhere, tls) if tls else self._store.add_insecure_port(everywhere)
        self.address = f"127.0.0.1:{port}"
        self._store.start()
        self._dashboard = ThreadingHTTPServer(("127.0.0.1", 0), dashboard_of(self))
        self.url = f"http://127.0.0.1:{self._dashboard.server_port}"
        threading.Thread(target=self._dashboard.serve_forever, args=(0.01,), daemon=True).start()

    def GetAllNodeInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.num_refused:
            self.num_refused -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "too busy")
        if self.token and ("authorization", f"Bearer {self.token}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        gone = self._states(node_manager_address="10.9.9.9", state=self._states.DEAD)
        node = self._states(node_manager_address=self.node, state=self._states.ALIVE)
        return self._messages.GetAllNodeInfoReply(node_info_list=[gone, node])

    def __getattr__(self, name: str) -> Any:
        if not name[0].isupper():
            raise AttributeError(name)
        return None  # the other calls of a control store, which nobody makes

    def stop(self) -> None:
        self._store.stop(None).wait()
        self._dashboard.shutdown()
        self._dashboard.server_close()


def dashboard_of(head: Head) -> type[BaseHTTPRequestHandler]:
    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = 200, {}
            if self.path == "/api/authentication_mode":
                answer = {"authentication_mode": "token" if head.token else "disabled"}
            elif head.token and self.headers.get("Authorization") != f"Bearer {head.token}":
                status = 403 if "Authorization" in self.headers else 401
            elif self.path.startswith("/nodes"):
                answer = {"data": {"summary": [{"ip": head.node}]}}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Dashboard


@pytest.fixture(params=["control store", "dashboard"])
def check(request: pytest.FixtureRequest, head: Head) -> Any:
    """The check of a driver, and that of who submits a job: they come to the same."""
    return (
        (lambda: auth.check_cluster(head.address))
        if request.param == "control store"
        else (lambda: auth.check_dashboard(head.url))
    )


def line(error: pytest.ExceptionInfo[AccessError]) -> str:
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    return str(error.value)


def test_an_open_cluster_that_others_reach_is_refused_whatever_this_machine_has(
    here: Path, head: Head, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    head.token = ""
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with pytest.raises(AccessError) as told:
        check()
    assert "requires no token and listens beyond loopback (10.0.0.5)" in line(told)
    assert "ray get-auth-token --generate" in line(told)


def test_an_open_cluster_on_loopback_needs_no_token(here: Path, head: Head, check: Any) -> None:
    head.token, head.node = "", "127.0.0.1"
    assert not check()


def test_a_missing_token_is_one_line_with_where_it_belongs(here: Path, check: Any) -> None:
    with pytest.raises(AccessError) as told:
        check()
    assert "requires a token, and there is none here; copy that of the cluster to ~/.ray/auth_token" in line(told)


def test_a_token_file_that_is_not_there_is_one_line(here: Path, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(AccessError) as told:
        check()
    assert "RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty: /nowhere/token" in line(told)


def test_a_wrong_token_is_one_line(here: Path, head: Head, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    head.token = TOKEN[::-1]
    with pytest.raises(AccessError) as told:
        check()
    assert "refuses the token of this machine" in line(told)


def test_authentication_that_is_switched_off_here_is_one_line(
    here: Path, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(AccessError) as told:
        check()
    assert "RAY_AUTH_MODE here is not `token`; unset it" in line(told)


def test_a_token_is_found_in_the_home_and_used_from_then_on(
    here: Path, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    (here / ".ray").mkdir()
    (here / ".ray" / "auth_token").write_text(TOKEN)
    (here / ".ray" / "auth_token").chmod(0o600)
    import_module("ray._raylet").Config.initialize("")
    assert not is_token_auth_enabled()
    assert auth.check_dashboard(head.url) == {"Authorization": f"Bearer {TOKEN}"}
    auth.check_cluster(head.address)
    assert is_token_auth_enabled()


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265"])
def test_an_address_for_others_than_drivers_is_one_line_with_what_to_use(here: Path, address: str) -> None:
    with pytest.raises(AddressError, match=r"expected `auto` or host:port: .*msa submit"), cluster(address):
        pytest.fail("connected")


@pytest.mark.slow
def test_nobody_at_the_address_is_one_line(here: Path) -> None:
    with (
        pytest.raises(ClusterError, match=r"cannot reach the Ray cluster at 127\.0\.0\.1:1: no head"),
        cluster("127.0.0.1:1"),
    ):
        pytest.fail("connected")


def test_a_head_that_is_too_busy_for_a_moment_is_asked_again(here: Path, head: Head) -> None:
    head.token, head.node, head.num_refused = "", "127.0.0.1", 2
    auth.check_cluster(head.address)
    assert head.num_refused == 0


LISTENING = """
import json, os, psutil
from orchestrator.run.ray_backend.cluster import cluster

with cluster(None):
    import ray
    from ray._private.worker import _global_node

    ray.get(ray.remote(lambda: None).remote())  # a worker, too
    session = os.path.basename(os.path.realpath(_global_node.get_session_dir_path()))
    mine = [psutil.Process(), *psutil.Process().children(recursive=True)]
    others = [each for each in psutil.process_iter(["cmdline"]) if session in " ".join(each.info["cmdline"] or [])]
    sockets = [socket for each in {*mine, *others} for socket in each.net_connections("inet")]
    print(json.dumps([socket.laddr.ip for socket in sockets if socket.status == "LISTEN"]))
"""


@pytest.mark.slow
def test_a_ray_that_is_started_here_listens_on_loopback_only(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LISTENING],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert ended.returncode == 0, ended.stderr
    addresses = json.loads(ended.stdout.splitlines()[-1])
    assert len(addresses) >= 6  # driver, control store, raylet, its agents, worker
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
