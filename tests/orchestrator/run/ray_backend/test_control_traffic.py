"""Where a token goes: servers in this process stand for the dashboard, for a proxy, and for who wants the token."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from orchestrator.run.ray_backend import auth, control_traffic, jobs
from orchestrator.run.ray_backend.control_traffic import AccessError, check_owner, check_token_file
from orchestrator.run.submission.working_tree import WorkingTree
from tests.orchestrator.run.ray_backend.test_auth import Head

TOKEN = "0123456789abcdef" * 4
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


class Server:
    """Notes of each request where it went, with which token and how much; answers as Ray does, or redirects."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None, int]] = []
        self.redirects: dict[str, str] = {}
        self.mode = '{"authentication_mode": "token"}'
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                self.rfile.read(size)
                server.seen.append((f"{self.command} {self.path}", self.headers.get("Authorization"), size))
                path = self.path.partition("?")[0]
                to = next((to for begin, to in server.redirects.items() if path.startswith(begin)), None)
                known = path == "/api/authentication_mode" or self.headers.get("Authorization") == f"Bearer {TOKEN}"
                missing = self.command == "GET" and path.startswith("/api/packages")
                self.send_response(307 if to else 404 if missing else 200 if known else 401)
                if to:
                    self.send_header("Location", to)
                self.end_headers()
                if path == "/api/authentication_mode":
                    self.wfile.write(server.mode.encode())
                    return
                answers = {
                    "/api/version": {"ray_version": "2.60.0", "version": "4"},
                    "/api/jobs/": {"submission_id": "job1", "job_id": "job1"},
                }
                self.wfile.write(json.dumps(answers.get(path, {})).encode())

            do_GET = do_POST = do_PUT = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def servers() -> Iterator[Callable[[], Server]]:
    made: list[Server] = []

    def make() -> Server:
        made.append(Server())
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a token; what is set of this process is as before afterwards."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_text(TOKEN)
    return path


@pytest.fixture
def proxy(servers: Callable[[], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """A proxy that the environment names for everything, also for this machine."""
    found = servers()
    for name in PROXIES:
        monkeypatch.setenv(name, found.url)
        monkeypatch.setenv(name.upper(), found.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return found


def work(folder: Path) -> WorkingTree:
    (folder / "work").mkdir()
    (folder / "work" / "a.py").write_text("x" * 1000)
    return WorkingTree.of(folder / "work")


async def first(stream: Any) -> str:
    return await anext(stream)


def test_no_proxy_sees_a_token_or_a_file(
    here: Path, tmp_path: Path, servers: Callable[[], Server], proxy: Server
) -> None:
    head = servers()
    client = jobs.connect(head.url)
    assert jobs.submit(client, ["resume", "/x"], work(tmp_path)) == "job1"
    assert proxy.seen == []
    assert [seen[0].partition("/_ray")[0] for seen in head.seen] == [
        *("GET /api/authentication_mode", "GET /api/version", "GET /api/version", "GET /api/version"),
        *("GET /api/packages/gcs", "PUT /api/packages/gcs", "POST /api/jobs/"),
    ]
    assert {seen[1] for seen in head.seen[1:]} == {f"Bearer {TOKEN}"}


def test_no_proxy_sees_what_a_driver_asks_of_a_cluster(
    here: Path, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    head = Head()
    try:
        auth.check_cluster(head.address)
    finally:
        head.stop()
    assert proxy.seen == []


def test_a_netrc_does_not_replace_the_token(here: Path, tmp_path: Path, servers: Callable[[], Server]) -> None:
    (tmp_path / ".netrc").write_text("default login me password hush\n")
    head = servers()
    jobs.connect(head.url)
    assert {seen[1] for seen in head.seen[1:]} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_token_that_is_no_file_is_not_waited_for(
    make: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(AccessError, match=r"token is a folder, a pipe or a device, expected a file"):
        check_token_file()


@pytest.mark.parametrize("at", ["/api/authentication_mode", "/api/version", "/api/packages", "/api/jobs/"])
def test_nothing_follows_a_redirect(here: Path, tmp_path: Path, servers: Callable[[], Server], at: str) -> None:
    head, thief = servers(), servers()
    head.redirects[at] = f"{thief.url}/api/version"
    with pytest.raises(AccessError, match=r"sends the token and the files elsewhere \('http://127\.0\.0\.1:\d+/"):
        jobs.submit(jobs.connect(head.url), ["resume", "/x"], work(tmp_path))
    assert thief.seen == []


def test_a_stream_that_is_redirected_takes_no_token_along(here: Path, servers: Callable[[], Server]) -> None:
    head, thief = servers(), servers()
    client = jobs.connect(head.url)
    head.redirects["/api/jobs/"] = f"{thief.url}/api/jobs/"
    with pytest.raises(jobs._connection_errors()):
        asyncio.run(first(client.tail_job_logs("job1")))
    assert {seen[1] for seen in thief.seen} <= {None}


@pytest.mark.parametrize("answer", ["[]", "<html>", '{"authentication_mode": "disabled"}'])
def test_something_that_is_no_dashboard_gets_no_token(here: Path, servers: Callable[[], Server], answer: str) -> None:
    head = servers()
    head.mode = answer
    with pytest.raises(jobs.HeadError, match=r"no head answers at http://127"):
        jobs.connect(head.url)
    assert {seen[1] for seen in head.seen} == {None}


LISTEN = """
import os, socket, sys
os.setuid(65534)  # not earlier: somebody else may not run this Python
listening = socket.create_server(("0.0.0.0", 0))  # Ray makes another address of 127.0.0.1
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def nobodys_port() -> Iterator[int]:
    """A port at which another user of this machine listens."""
    if os.geteuid() != 0:
        pytest.skip("only root can listen as somebody else")
    command = [sys.executable, "-I", "-S", "-c", LISTEN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        yield int(other.stdout.readline())
        other.stdin.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_of_another_user_gets_nothing(here: Path, nobodys_port: int, host: str) -> None:
    with pytest.raises(AccessError) as told:
        jobs.connect(f"http://{host}:{nobodys_port}")
    assert f"port {nobodys_port} of this machine belongs to nobody (65534), not to you" in str(told.value)
    assert "--insecure" in str(told.value)
    with pytest.raises(AccessError, match="belongs to nobody"):
        auth.check_cluster(f"127.0.0.1:{nobodys_port}")


TCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.mark.parametrize(
    ("table", "local", "state", "uid", "refused"),
    [
        ("tcp", "0100007F:2049", "0A", 1234, True),  # 127.0.0.1:8265
        ("tcp", "00000000:2049", "0A", 1234, True),
        ("tcp6", "00000000000000000000000000000000:2049", "0A", 1234, True),  # both families
        ("tcp6", "0000000000000000FFFF00000100007F:2049", "0A", 1234, True),
        ("tcp", "0100007F:2049", "0A", 0, False),
        ("tcp", "0100007F:2049", "0A", os.getuid(), False),
        ("tcp", "0100007F:2049", "01", 1234, False),  # a connection
        ("tcp", "0100007F:204A", "0A", 1234, False),
        ("tcp", "0200007F:2049", "0A", 1234, False),  # 127.0.0.2
        ("tcp6", "00000000000000000000000001000000:2049", "0A", 1234, False),  # ::1
    ],
)
def test_whoever_could_answer_at_a_port_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, local: str, state: str, uid: int, refused: bool
) -> None:
    (tmp_path / table).write_text(
        f"{TCP}   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid:5}        0 126 1 0\n"
    )
    monkeypatch.setattr(control_traffic, "Path", lambda folder, name: tmp_path / name)
    if refused:
        with pytest.raises(AccessError, match="port 8265 of this machine belongs to the user 1234, not to you"):
            check_owner("127.0.0.1", 8265, "Do.")
    else:
        check_owner("127.0.0.1", 8265, "Do.")


def test_a_port_is_looked_at_again_before_each_request(
    here: Path, servers: Callable[[], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a tunnel that broke while a job was followed, and whose port somebody else took."""
    head = servers()
    client = jobs.connect(head.url)
    num_seen = len(head.seen)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(control_traffic, "_ROOT", 1234)
    for ask in (lambda: client.list_jobs(), lambda: asyncio.run(first(client.tail_job_logs("job1")))):
        with pytest.raises(AccessError, match=f"port {head.port} of this machine belongs to"):
            ask()
    assert len(head.seen) == num_seen


@pytest.mark.parametrize(("mode", "words"), [(0o644, "mode 0644, expected 0600"), (0o640, "mode 0640"), (0o600, "")])
def test_a_token_that_others_can_read_is_refused(
    here: Path, servers: Callable[[], Server], mode: int, words: str
) -> None:
    here.chmod(mode)
    head = servers()
    if not words:
        jobs.connect(head.url)
        return
    with pytest.raises(AccessError) as told:
        jobs.connect(head.url)
    assert words in str(told.value)
    assert f"`chmod 600 {here}`" in str(told.value)
    assert TOKEN not in str(told.value)
    assert {seen[1] for seen in head.seen} == {None}


def test_a_token_that_somebody_else_has_made_is_refused(
    here: Path, servers: Callable[[], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(here, 65534, 65534)
    with pytest.raises(AccessError, match=r"is a file of nobody \(65534\), expected one of yours"):
        jobs.connect(servers().url)


@pytest.mark.parametrize(
    ("named", "mode", "refused"), [(True, 0o644, True), (True, 0o600, False), (False, 0o644, False)]
)
def test_a_token_elsewhere_is_looked_at_and_one_of_the_environment_is_not(
    here: Path, tmp_path: Path, servers: Callable[[], Server], monkeypatch: Any, named: bool, mode: int, refused: bool
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    if not named:
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    if refused:
        with pytest.raises(AccessError, match="can be read by others"):
            jobs.connect(servers().url)
    else:
        jobs.connect(servers().url)


def test_tls_without_its_files_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    for name in ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AccessError, match=r"RAY_USE_TLS is set here: .*RAY_TLS_CA_CERT must also be set"):
        auth.check_cluster("127.0.0.1:1")


def certificates(folder: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> tuple[bytes, bytes]:
    """Key and certificate of a cluster, which this process knows by Ray's variables."""
    names = ("ca.pem", "key.pem", "cert.pem")
    ca, key, cert = (folder / name for name in names)
    commands = [
        f"req -x509 -newkey rsa:2048 -nodes -keyout {folder}/ca.key -out {ca} -subj /CN=ca",
        f"req -newkey rsa:2048 -nodes -keyout {key} -out {folder}/csr -subj /CN=node",
        f"x509 -req -in {folder}/csr -CA {ca} -CAkey {folder}/ca.key -CAcreateserial -out {cert} -extfile {folder}/ext",
    ]
    (folder / "ext").write_text(f"subjectAltName=IP:127.0.0.1,IP:{host}\n")
    for command in commands:
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    monkeypatch.setenv("RAY_USE_TLS", "1")
    for name, path in (("SERVER_CERT", cert), ("SERVER_KEY", key), ("CA_CERT", ca)):
        monkeypatch.setenv(f"RAY_TLS_{name}", str(path))
    return key.read_bytes(), cert.read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
def test_a_control_store_that_speaks_tls_is_asked_in_tls(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import services  # what Ray makes of 127.0.0.1

    host = services.resolve_ip_for_localhost("127.0.0.1")
    key, certificate = certificates(tmp_path, monkeypatch, host)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    head = Head(grpc.ssl_server_credentials([(key, certificate)]))
    try:
        auth.check_cluster(head.address)
        monkeypatch.delenv("RAY_USE_TLS")
        with pytest.raises(ConnectionError):
            auth.check_cluster(head.address)
    finally:
        head.stop()
