"""The way of a token to its cluster: from a file of this user, through no proxy, to a port of theirs, not redirected.

A token lets whoever has it run code on the cluster, and what is sent with it is the user's own work. So it goes to the
address that was meant and nowhere else, whatever the environment, a server or another user of this machine says.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msa_models.printable import command
from orchestrator.store.faults import CouldNotRun

if TYPE_CHECKING:
    import requests

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_URL = re.compile(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d+)?(/[\w./~-]*)?")
_LISTENING = "0A"  # of /proc/net/tcp
_ROOT = 0


class AccessError(CouldNotRun):
    """A cluster that lets in anyone, or that does not let in this machine, or that is not the one that is meant."""


class InsecureError(ValueError):
    """A way on which others would read the token."""


def is_url(address: str) -> bool:
    """Whether it reads as the address of a dashboard, in the same way for everybody who reads it."""
    return _URL.fullmatch(address) is not None


def check_way(url: str) -> None:
    """Raise InsecureError for plain http to anything but this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http" and host != "localhost" and not _is_loopback(host):
        raise InsecureError(
            f"{url} is plain http beyond this machine: whoever is on the way reads the token and can answer for "
            f"the cluster; open a tunnel, `ssh -N -L 8265:127.0.0.1:8265 {host}` or `ray dashboard cluster.yaml`, and "
            "leave --address out; --insecure where the network is your own"
        )


def check_owner(host: str, port: int, otherwise: str) -> None:
    """Raise AccessError where a port of this machine is somebody else's: neither this user's nor root's.

    A tunnel is an ssh of this user's. Where nobody is seen to listen although somebody answers, only root can have
    arranged for that. On a system that does not tell (a Mac) the port is taken for the user's. `otherwise`: what to do
    where it is meant to be so.
    """
    targets = set(_addresses_of(host, port))
    for address, uid in _listeners(port):
        reached = address in targets or (address.is_unspecified and any(map(_is_here, targets)))
        if reached and uid not in (_ROOT, os.getuid(), os.geteuid()):
            raise AccessError(
                f"port {port} of this machine belongs to {_name(uid)}, not to you: whoever listens there would get the "
                f"token and your files; where is your own tunnel, or your own Ray? {otherwise}"
            )


def check_token_file() -> None:
    """Raise AccessError where others can read, or have made, the file that Ray takes the token from."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    try:
        status = path.stat()
    except OSError:
        return  # Ray says what is wrong
    if not stat.S_ISREG(status.st_mode):  # Ray would wait for a pipe, and read a device without end
        raise AccessError(f"the token in {path} is a folder, a pipe or a device, expected a file")
    if status.st_uid not in (_ROOT, os.geteuid()):
        raise AccessError(f"the token in {path} is a file of {_name(status.st_uid)}, expected one of yours; copy it")
    # one of root's is a secret that Kubernetes mounts, which a group may have to read
    others = status.st_mode & (0o007 if status.st_uid != os.geteuid() else 0o077)
    if others:
        raise AccessError(
            f"the token in {path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}, expected 0600): "
            f"`{command('chmod', '600', str(path))}`, and where others are on this machine make a new one"
        )


def request(method: str, url: str, *, headers: Mapping[str, str], **options: Any) -> requests.Response:
    """What `requests.request` does, but through no proxy, without what a .netrc has, and to this address alone.

    Raises AccessError for a redirect, OSError where nobody answers.
    """
    import requests

    with requests.Session() as session:
        session.trust_env = False  # neither proxies nor .netrc, which would replace the token
        options = {"verify": authorities(), **options}
        answer = session.request(method, url, headers=dict(headers), allow_redirects=False, **options)
    if answer.is_redirect:
        raise AccessError(
            f"what answers at {url} sends the token and the files elsewhere ({answer.headers['Location'][:200]!r}); "
            "give the address of the dashboard itself"
        )
    return answer


def authorities() -> str | bool:
    """Whom https trusts: a file or folder that the environment names, as for requests and OpenSSL, or the usual."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _addresses_of(host: str, port: int) -> Iterator[_Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return  # whoever connects says so
    for *_, address in found:
        yield _plain(ipaddress.ip_address(str(address[0]).partition("%")[0]))


def _plain(address: _Address) -> _Address:
    """An address of version 4 that is written as one of 6 is one of 4."""
    return getattr(address, "ipv4_mapped", None) or address


def _is_here(address: _Address) -> bool:
    """Whether it is one of this machine."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
        return True
    except OSError:
        return False


def _listeners(port: int) -> Iterator[tuple[_Address, int]]:
    """Each address at which somebody on this machine listens on the port, and the uid of who does. Linux only."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, state, uid = fields[1], fields[3], fields[7]
            number, _, at = local.partition(":")
            if state == _LISTENING and int(at, 16) == port:
                words = [int(number[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(number), 8)]
                yield _plain(ipaddress.ip_address(b"".join(words))), int(uid)


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"the user {uid}"
