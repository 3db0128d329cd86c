"""Who may use a Ray cluster: whoever reaches an open one runs code there as the user who started it.

A cluster that listens beyond loopback must require a token (RAY_AUTH_MODE=token). It is the cluster that is asked, and
without a token: what this machine has says nothing about whom the cluster lets in. Ray listens on every interface,
unless the address of a node itself is a loopback one; and an address that is reached may be the end of a tunnel. So
what counts are the addresses of the nodes.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module  # for what of Ray is compiled or generated, where no type checker looks
from typing import TYPE_CHECKING, Any, cast

from orchestrator.run.ray_backend.control_traffic import AccessError, check_owner, check_token_file, request

if TYPE_CHECKING:
    import grpc
    import requests

_TIMEOUT_S = 20.0
_RETRY_S = 3.0  # a busy head may be unavailable for a moment
_TO_COPY = (
    "copy that of the cluster to ~/.ray/auth_token (`ray exec cluster.yaml 'ray get-auth-token'` prints it), or name "
    "its file in RAY_AUTH_TOKEN_PATH"
)


class AddressError(ValueError):
    """What cannot be the address of a cluster."""


def check_address(address: str) -> None:
    """Raise AddressError for what is neither `auto` nor host:port."""
    if "://" in address:
        raise AddressError(
            f"got {address} as the address of a Ray cluster, expected `auto` or host:port: a driver runs on a "
            "machine of the cluster; from elsewhere hand it over: msa submit -- sweep …"
        )


def check_cluster(address: str) -> None:
    """Before Ray connects to `auto` or `host:port`: the cluster must require a token, which this process then uses.

    Raises AddressError, AccessError; ConnectionError where nobody answers.
    """
    from ray._private import services  # ray 2.60.0: what `ray.init` makes of an address, before it connects

    check_address(address)
    found = services.canonicalize_bootstrap_address(address)
    if found is None:
        raise ConnectionError("no Ray cluster runs on this machine; start one with `ray start --head`, or join one")
    host, _, port = found.rpartition(":")
    check_owner(host, int(port), "Run the command as that user, or hand it over: msa submit --insecure -- …")
    nodes = _nodes(found)
    if nodes is not None:
        _refuse_open(f"the Ray cluster at {found}", nodes)
    elif _nodes(found, _token_for(f"the Ray cluster at {found}")) is None:
        raise wrong_token(f"the Ray cluster at {found}")
    else:
        _use_token()


def check_dashboard(url: str) -> dict[str, str]:
    """The headers with which this machine may talk to a head's dashboard, which must require a token.

    Raises AccessError; OSError where nobody answers, or something that is no dashboard.
    """
    cluster = f"the Ray cluster at {url}"
    try:
        mode = _asked(f"{url}/api/authentication_mode")
        if not mode.ok or mode.json().get("authentication_mode") != "token":  # not ok: a Ray without tokens
            nodes = _asked(f"{url}/nodes", params={"view": "summary"})
            nodes.raise_for_status()
            _refuse_open(cluster, [node["ip"] for node in nodes.json()["data"]["summary"]])
            return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConnectionError(f"what answers at {url} is no dashboard of Ray") from error
    headers = {"Authorization": f"Bearer {_token_for(cluster)}"}
    if _asked(f"{url}/api/version", headers=headers).status_code in (401, 403):
        raise wrong_token(cluster)
    return headers


def _asked(url: str, headers: Mapping[str, str] | None = None, **options: Any) -> requests.Response:
    return request("GET", url, headers=headers or {}, timeout=_TIMEOUT_S, **options)


@contextmanager
def loopback_only() -> Iterator[None]:
    """A Ray that is started in this block listens on loopback only, on Linux as it always does on a Mac.

    Elsewhere Ray replaces 127.0.0.1 by an address that others reach, whatever it is given.
    """
    from ray._private import ray_constants  # ray 2.60.0: read from the environment only when ray is imported

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _refuse_open(cluster: str, nodes: Sequence[str]) -> None:
    beyond = [node for node in nodes if not ipaddress.ip_address(node).is_loopback]
    if beyond or not nodes:
        raise AccessError(
            f"{cluster} requires no token and listens beyond loopback ({', '.join(beyond[:3]) or 'it names no node'}): "
            "whoever reaches it runs code as you; stop it (`ray stop`), make a token (`ray get-auth-token --generate`, "
            "then copy ~/.ray/auth_token to every node), and start each node with RAY_AUTH_MODE=token"
        )


def _token_for(cluster: str) -> str:
    from ray.exceptions import AuthenticationError

    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        raise AccessError(f"{cluster} requires a token, and RAY_AUTH_MODE here is not `token`; unset it")
    check_token_file()
    # ray 2.60.0: the token that Ray itself would use, as `ray get-auth-token` reads it
    loader = import_module("ray._raylet").AuthenticationTokenLoader.instance()
    loader.reset_cache()
    try:
        token = loader.get_raw_token(ignore_auth_mode=True)
    except AuthenticationError as error:
        raise AccessError(f"{cluster} requires a token, and {error.message}") from error
    if not token:
        raise AccessError(f"{cluster} requires a token, and there is none here; {_TO_COPY}")
    return token


def wrong_token(cluster: str) -> AccessError:
    """Of a cluster that requires another token."""
    return AccessError(f"{cluster} refuses the token of this machine; {_TO_COPY}")


def _use_token() -> None:
    """Ray looks for a token by itself only where it found the cluster by itself."""
    os.environ["RAY_AUTH_MODE"] = "token"
    # ray 2.60.0: the mode was read when ray was imported
    import_module("ray._raylet").Config.initialize("")


def _nodes(address: str, token: str = "") -> list[str] | None:
    """The addresses of the living nodes, as the control store tells them; None if it does not let the asker in."""
    import grpc

    # ray 2.60.0: `ray.nodes()` tells the same, but only to who has connected, and has sent a token, already
    messages, services = (import_module(f"ray.core.generated.gcs_service_pb2{end}") for end in ("", "_grpc"))
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with _channel(address) as channel:
        ask = services.NodeInfoGcsServiceStub(channel).GetAllNodeInfo
        until = time.monotonic() + _RETRY_S
        while True:
            try:
                answer = ask(messages.GetAllNodeInfoRequest(), metadata=metadata, timeout=_TIMEOUT_S)
                break
            except grpc.RpcError as error:
                code = cast(grpc.Call, error).code()
                if code == grpc.StatusCode.UNAUTHENTICATED:
                    return None
                if code != grpc.StatusCode.UNAVAILABLE or time.monotonic() > until:
                    raise ConnectionError(f"no head answers there ({code.name.lower().replace('_', ' ')})") from error
                time.sleep(0.2)
    alive = import_module("ray.core.generated.gcs_pb2").GcsNodeInfo.ALIVE  # ray 2.60.0
    return [node.node_manager_address for node in answer.node_info_list if node.state == alive]


def _channel(address: str) -> grpc.Channel:
    """Through no proxy, and encrypted where Ray is (RAY_USE_TLS)."""
    import grpc

    options = [("grpc.enable_http_proxy", 0)]
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.insecure_channel(address, options)
    # ray 2.60.0: the files that Ray itself would use
    load = import_module("ray._common.tls_utils").load_certs_from_env
    try:
        certificate, key, authority = load()
    except (RuntimeError, OSError) as error:
        raise AccessError(f"RAY_USE_TLS is set here: {' '.join(str(error).split())}") from error
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, certificate), options)
