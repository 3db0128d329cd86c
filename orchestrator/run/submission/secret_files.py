"""What looks like a secret: by the name of a file, and by what stands in it (detect-secrets)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from orchestrator.run.submission import tokens

_LIST = """
.env* *.env !.env.example !.env.sample !.env.template !.env.dist
*.pem *.key *.ppk *.p8 *.p12 *.pfx *.jks *.keystore *.keytab *.kdbx *.ovpn
id_* !id_*.* id_rsa* id_dsa* id_ecdsa* id_ed25519* !*.pub
.git-credentials* .netrc _netrc .authinfo* .npmrc .yarnrc.yml .pypirc .htpasswd .pgpass .my.cnf .mylogin.cnf .renviron
.databrickscfg .modal.toml .terraformrc .vault-token .dockercfg .dockerconfigjson .boto .s3cfg .passwd-s3fs
rclone.conf clearml.conf .comet.config cookies.txt kaggle.json client_secret*.json service[-_]account*.json
*credentials *credentials.* secrets.* !*.py *.secret *.secrets
auth_token .token *.token hf_token* *api_key *api_key.txt
*.tfstate *.tfstate.* *.tfvars kubeconfig* *.kubeconfig
.*_history fish_history .history .lesshst .viminfo
.ssh/ .gnupg/ .aws/ .azure/ .oci/ .kube/ .kaggle/ .ngc/ .huggingface/ **/.config/gcloud/ **/.config/gh/
**/.docker/config.json **/containers/auth.json **/huggingface/token **/huggingface/stored_tokens
**/.dvc/config.local **/.m2/settings.xml
"""
_NAMES = GitIgnoreSpec.from_lines(_LIST.split())  # of names in lower case; later ones rule over earlier ones
_COPY = re.compile(r"(~|\.(bak|backup|old|orig|save|swp|swo|tmp|copy|\d+)| copy( \d+)?)+$| ?\(\d+\)(?=\.|$)|^copy of ")
_PLUGINS = (
    *(
        "AWSKeyDetector",
        "AzureStorageKeyDetector",
        "BasicAuthDetector",
        "DiscordBotTokenDetector",
        "GitLabTokenDetector",
    ),
    *("JwtTokenDetector", "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector", "SendGridDetector"),
    *("SlackDetector", "SquareOAuthDetector", "StripeDetector"),
)
_FILTERS = (  # not those that let a token pass because it stands in a call
    *("allowlist.is_line_allowlisted", "heuristic.is_templated_secret", "heuristic.is_prefixed_with_dollar_sign"),
    "heuristic.is_not_alphanumeric_string",
)
_LARGEST = 16 * 2**20  # bytes that are looked at of a file
_LARGEST_BINARY = 2**20  # and of one that is no text
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


def contents(paths: Iterable[Path]) -> Iterator[tuple[Path, int, str]]:
    """Of each file in which something looks like a secret, the first line that does and as what.

    Of a text 16 MiB are looked at, of anything else 1 MiB. A line with the comment `pragma: allowlist secret` passes.
    Raises OSError for a file that cannot be read.
    """
    with _scanner():
        for path in paths:
            found = _first(path)
            if found is not None:
                yield path, *found


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


def _first(path: Path) -> tuple[int, str] | None:
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import get_plugins

    with path.open("rb") as file:
        start = file.read(_LARGEST_BINARY)
        text = start if b"\0" in start[:8192] else start + file.read(_LARGEST - len(start))
    whole = text.decode("utf-8", errors="replace")
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
