"""Tokens of this field, as plugins of detect-secrets: what its own do not know, or take other things for.

Each is found by what its issuer writes in front of it, or by what stands around it; none by entropy alone, which
hashes, ids and pictures in notebooks have, too. A pattern that begins with its letters is searched ten times as fast
as one that begins with a boundary or a choice.
"""

from __future__ import annotations

import re

from detect_secrets.plugins.base import RegexBasedDetector

_SHORTEST_PASSWORD = 6  # characters: what is shorter stands in an example
_EXAMPLES = re.compile(
    r"pass(word|wd)?|pw|secrets?|(my|your)?[-_]?(token|key|password)|change-?me|x+|\*+|\.+|%s|…", re.I
)


def _detector(name: str, secret_type: str, *patterns: str) -> type[RegexBasedDetector]:
    """A plugin; detect-secrets declares both attributes as properties, and reads them off the class."""
    members = {"secret_type": secret_type, "denylist": tuple(map(re.compile, patterns)), "__module__": __name__}
    return type(name, (RegexBasedDetector,), members)


HuggingFace = _detector("HuggingFace", "Hugging Face token", r"hf_[A-Za-z0-9]{34}\b")
# Weights & Biases has keys that are told from a commit only by what stands before them; Neptune's begin with a JSON.
ExperimentTracker = _detector(
    "ExperimentTracker",
    "key of an experiment tracker",
    r"""WANDB_API_KEY["'\]]*[ \t]*[=:,][ \t]*["']?[0-9a-f]{40}\b""",
    r"""wandb[. ]login\b.{0,30}[ "'=][0-9a-f]{40}\b""",
    r"api\.wandb\.ai.{0,60}\bpassword[ \t]+[0-9a-f]{40}\b",
    r"wandb_v1_[A-Za-z0-9_]{40,}",
    r"eyJhcGlfYWRkcmVzcyI6[A-Za-z0-9+/=]{40,}",
)
# The plugin of detect-secrets takes names of functions with many underscores for these.
GitHub = _detector(
    "GitHub", "GitHub token", r"gh[pousr]_[A-Za-z0-9]{36,}\b", r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b"
)
LanguageModel = _detector(
    "LanguageModel",
    "key of a language model",
    r"sk-(?:proj|svcacct|admin|ant-api\d\d|ant-admin\d\d)-[A-Za-z0-9_-]{40,}",
)
# Of AWS as its own files have them, without quotes, and of Google.
Cloud = _detector(
    "Cloud",
    "key of a cloud",
    r"aws_secret_access_key[ \t]*[=:][ \t]*[0-9A-Za-z/+]{40}(?![0-9A-Za-z/+])",
    r"AWS_SECRET_ACCESS_KEY[ \t]*[=:][ \t]*[0-9A-Za-z/+]{40}(?![0-9A-Za-z/+])",
    r"AIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])",
    r"""refresh_token["']?[ \t]*[=:][ \t]*["']1//0[0-9A-Za-z_-]{40,}""",
    r"GOCSPX-[0-9A-Za-z_-]{28}(?![0-9A-Za-z_-])",
)
# Behind a password, of newer PuTTY, of age.
LockedKey = _detector(
    "LockedKey",
    "private key",
    r"BEGIN ENCRYPTED PRIVAT[E] KEY",
    r"PuTTY-User-Key-File[-]3",
    r"AGE-SECRET-KEY-1[0-9A-Z]{20,}",
)
# What lets anybody write to a channel.
Messenger = _detector(
    "Messenger",
    "token of a messenger",
    r":AA[0-9A-Za-z_-]{33}(?![0-9A-Za-z_-])(?<=\d{8}:.{35})",
    r"https://discord(?:app)?\.com/api/webhooks/\d+/[0-9A-Za-z_-]{40,}",
    r"\.webhook\.office\.com/webhookb2/[0-9a-f-]{36}",
)
OURS = (HuggingFace, ExperimentTracker, GitHub, LanguageModel, Cloud, LockedKey, Messenger)


def is_example(secret: str, line: str) -> bool:
    """Whether what was found stands for a secret in documentation: a filter of detect-secrets."""
    if secret.endswith("EXAMPLE"):  # as AWS writes its own
        return True
    password = f":{secret}@" in line
    return password and (len(secret) < _SHORTEST_PASSWORD or _EXAMPLES.fullmatch(secret) is not None)
