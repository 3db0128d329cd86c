"""What looks like a secret: by the name of a file, and by what stands in it, also packed (detect-secrets, and ours)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from msa_models.printable import one_line
from orchestrator.run.submission import passwords, tokens
from orchestrator.run.submission.packed import is_binary, parts

_LIST = """
.env* *.env !.env.example !.env.sample !.env.template !.env.dist
*.pem *.key *.ppk *.p8 *.p12 *.pkcs12 *.pfx *.jks *.keystore *.keytab *.kdb *.kdbx *.ovpn *.keychain *.keychain-db
id_* !id_*.* id_rsa* id_dsa* id_ecdsa* id_ed25519* *_rsa *_dsa *_ecdsa *_ed25519 ssh_host_*_key !*.pub secring.*
.git-credentials* .netrc _netrc .authinfo* .npmrc .yarnrc.yml .pypirc .htpasswd .pgpass .my.cnf .mylogin.cnf .renviron
.databrickscfg .modal.toml .terraformrc .vault-token .dockercfg .dockerconfigjson .boto .s3cfg .passwd-s3fs
pgpass.conf *.htpasswd .esmtprc .msmtprc .fetchmailrc sftp-config.json .ftpconfig filezilla.xml sitemanager.xml
rclone.conf clearml.conf .comet.config cookies.txt kaggle.json client_secret*.json service[-_]account*.json
*credentials *credentials.* *creds *creds.* secrets.* passwords.* *.secret *.secrets !*.py *password.txt
auth_token .token *.token hf_token* *api_key *api_key.txt .vault[-_]pass* jupyter_cookie_secret krb5cc_*
*.tfstate *.tfstate.* *.tfvars kubeconfig* *.kubeconfig
.*_history fish_history .history .lesshst .viminfo
.ssh/ .gnupg/ .aws/ .azure/ .oci/ .kube/ .kaggle/ .ngc/ .huggingface/ **/.config/gcloud/ **/.config/gh/
**/.docker/config.json **/containers/auth.json **/huggingface/token **/huggingface/stored_tokens
**/.dvc/config.local **/.m2/settings.xml
"""
_NAMES = GitIgnoreSpec.from_lines(_LIST.split())  # of names in lower case; later ones rule over earlier ones
_PACKED = r"\.(gz|bz2|xz|zip|tar|tgz)"
_COPY = re.compile(
    rf"(~|\.(bak|backup|old|orig|save|swp|swo|tmp|copy|\d+)|{_PACKED}| copy( \d+)?)+$| ?\(\d+\)(?=\.|$)|^copy of "
)
_PLUGINS = (
    *("AWSKeyDetector", "AzureStorageKeyDetector", "BasicAuthDetector", "DiscordBotTokenDetector"),
    *("GitLabTokenDetector", "JwtTokenDetector", "NpmDetector", "OpenAIDetector", "PrivateKeyDetector"),
    *("PypiTokenDetector", "SendGridDetector", "SlackDetector", "SquareOAuthDetector", "StripeDetector"),
)
_FILTERS = (  # not those that let a token pass because it stands in a call
    *("allowlist.is_line_allowlisted", "heuristic.is_templated_secret", "heuristic.is_prefixed_with_dollar_sign"),
    "heuristic.is_not_alphanumeric_string",
)
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_PIECE, _OVERLAP = 2**18, 2**10  # characters: what a pattern costs may grow with the square of a line


def named_like_a_secret(path: str) -> bool:
    """Whether the name, or a folder above, says that this is somebody's key, token, password or shell history; a copy
    of one, too. The path is relative, with slashes.
    """
    path = path.lower()
    folder, name = posixpath.split(path)
    original = posixpath.join(folder, _COPY.sub("", name))
    hidden = posixpath.join(folder, _COPY.sub("", name).removeprefix("."))  # an editor's .id_rsa.swp
    return any(
        _NAMES.match_file(each) for each in (path, original, hidden if name.endswith((".swp", ".swo")) else path)
    )


def contents(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Each file in which something looks like a secret, and where and as what the first does.

    Archives are looked into. Of a text 16 MiB are looked at, of anything else 1 MiB, of all in an archive 64 MiB. A
    line with the comment `pragma: allowlist secret` passes. Raises OSError for a file that cannot be read.
    """
    with _scanner():
        for path in paths:
            why = next((why for within, data in parts(path) if (why := _reason(path, within, data))), None)
            if why is not None:
                yield path, why


@contextmanager
def _scanner() -> Iterator[None]:
    from detect_secrets.settings import transient_settings

    where = f"file://{Path(tokens.__file__).resolve()}"
    plugins: list[Mapping[str, Any]] = [{"name": name} for name in _PLUGINS]
    plugins += [{"name": each.__name__, "path": where} for each in tokens.OURS]
    filters = [{"path": f"detect_secrets.filters.{name}"} for name in _FILTERS]
    filters.append({"path": f"{tokens.__name__}.{tokens.is_example.__name__}"})
    with transient_settings({"plugins_used": plugins, "filters_used": filters}):
        yield


def _reason(path: Path, within: str, data: bytes) -> str | None:
    """Why a file, or what is packed in it under this name, looks like a secret; None if it does not."""
    at = f"{one_line(within)} in it, " if within else ""
    if within and named_like_a_secret(posixpath.normpath(within).lstrip("/")):
        return f"{at}its name"
    text = _text(data)
    found = [_token(text)]
    if not is_binary(data) or data[:2] in _BYTE_ORDER_MARKS:
        found.append(passwords.first(text, (within or path.name).removesuffix(".gz")))
    line, kind = min(filter(None, found), default=(0, ""))
    return f"{at}line {line}: {kind}" if line else None


def _text(data: bytes) -> str:
    return data.decode(_BYTE_ORDER_MARKS.get(data[:2], "utf-8"), errors="replace")


def _token(whole: str) -> tuple[int, str] | None:
    """The first line in which a plugin of the scanner finds something, and its kind."""
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import get_plugins

    for begin in range(0, len(whole), _PIECE):
        piece = whole[begin : begin + _PIECE + _OVERLAP]
        plugins = [plugin for plugin in get_plugins() if any(plugin.analyze_string(piece))]
        if not plugins:
            continue
        line_before = whole.count("\n", 0, begin)
        for number, line in enumerate(piece.split("\n"), start=1):
            if any(any(plugin.analyze_string(line)) for plugin in plugins):
                for secret in scan_line(line):
                    return line_before + number, secret.type
    return None
