"""Addresses of storages that carry a secret are refused: they would end up in records, logs and `ps`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit

from orchestrator.store.faults import StorageError

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.+", re.DOTALL)


def refuse_credentials(uri: str) -> None:
    """Refuse a URI that carries a secret: it would end up in records, logs and `ps`. The secret is not repeated."""
    scheme, _, rest = uri.partition("://")
    user = rest.rpartition("@")[0]
    words = ("key", "secret", "token", "password", "sig")
    secrets = [name for name, _ in parse_qsl(urlsplit(uri).query) if any(word in name.lower() for word in words)]
    if ":" in user or (user and scheme == "s3") or secrets:
        raise StorageError(
            f"a {scheme}:// address with credentials in its URI is refused: they would end up in records and logs; "
            "leave them out and give them through the environment (AWS_ACCESS_KEY_ID, …) or a profile"
        )


def refuse_credentials_in(arguments: Sequence[str]) -> None:
    """The same of a command line, in which a URI may be anywhere: command lines are recorded, too."""
    for argument in arguments:
        if found := _URI.search(argument):
            refuse_credentials(found[0])
