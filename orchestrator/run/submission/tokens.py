"""Tokens of this field, as plugins of detect-secrets: what its own do not know, or take other things for.

Each is found by what its issuer writes in front of it, or by what stands around it; none by entropy alone, which
hashes, ids and pictures in notebooks have, too. A pattern that begins with its letters is searched ten times as fast
as one that begins with a boundary or a choice.
"""

from __future__ import annotations

import base64
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


def _in_base64(text: str) -> str:
    """How it begins whatever comes after it."""
    return base64.b64encode(text.encode()).decode()[: len(text) * 8 // 6]


_KINDS = ("", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED ", "PGP ")
HuggingFace = _detector("HuggingFace", "Hugging Face token", r"hf_[A-Za-z0-9]{34}\b", r"api_org_[A-Za-z0-9]{34}\b")
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
# The first pattern is for keys that say whose they are, the second for those of before, and of who took them over.
LanguageModel = _detector(
    "LanguageModel",
    "key of a language model",
    r"sk-(?:proj|svcacct|admin|None|or-v1|lf|ant-api\d\d|ant-admin\d\d)-[A-Za-z0-9_-]{32,}",
    r"sk-(?<![\w-]...)[A-Za-z0-9]{32,}(?![\w-])",
    r"gsk_[A-Za-z0-9]{52}\b",
    r"xai-[A-Za-z0-9]{80}\b",
    r"pplx-[A-Za-z0-9]{48}\b",
    r"r8_(?<!\w...)[A-Za-z0-9]{37}\b",
    r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}\b",
    r"nvapi-[A-Za-z0-9_-]{60,}",
    r"pcsk_[A-Za-z0-9]{4,6}_[A-Za-z0-9]{40,}",
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
    r"dapi(?<!\w....)[0-9a-f]{32}(?:-\d)?(?![\w-])",
    r"do[opr]_v1_[0-9a-f]{64}\b",
    r"hv[sb]\.[A-Za-z0-9_-]{90,}",
    r"\.atlasv1\.[A-Za-z0-9_=-]{60,70}",
    r"ATATT3[A-Za-z0-9_=-]{60,}",
    r"tskey-[a-z]+-[A-Za-z0-9]+-[A-Za-z0-9]{16,}",
    r"gl(?:sa|c)_[A-Za-z0-9+/=]{32,}",
    r"pul-(?<![\w-]....)[0-9a-f]{40}\b",
    r"npm_(?<!\w....)[A-Za-z0-9]{36}\b",
)
# What a registry of images, or Kaggle, keeps in a JSON; what a .netrc and a header say.
Login = _detector(
    "Login",
    "name and password",
    r""""auth"[ \t]*:[ \t]*"[A-Za-z0-9+/]{12,}={0,2}\"""",
    r""""(?:identity|registry)token"[ \t]*:[ \t]*"[^"]{12,}\"""",
    r""""username"[ \t]*:[ \t]*"[^"]+"[ \t]*,[ \t]*"key"[ \t]*:[ \t]*"[0-9a-f]{32}\"""",
    r"machine[ \t]+\S+[ \t]+login[ \t]+\S+[ \t]+password[ \t]+[^\s$<{]{4,}",
    r"uthorization['\"]?[ \t]*[:=][ \t]*[fb]?['\"]?(?:[Bb]earer|[Bb]asic|[Tt]oken) [A-Za-z0-9._~+/=-]{20,}",
)
# Behind a password, of newer PuTTY, of age, and as a kubeconfig has it, in base64: five kinds, and what comes before.
LockedKey = _detector(
    "LockedKey",
    "private key",
    r"BEGIN ENCRYPTED PRIVAT[E] KEY",
    r"PuTTY-User-Key-File[-]3",
    r"AGE-SECRET-KEY-1[0-9A-Z]{20,}",
    "LS0tLS1CRUdJTi(?:" + "|".join(_in_base64(f"-----BEGIN {kind}PRIV")[14:] for kind in _KINDS) + ")",
)
# What lets anybody write to a channel.
Messenger = _detector(
    "Messenger",
    "token of a messenger",
    r":AA[0-9A-Za-z_-]{33}(?![0-9A-Za-z_-])(?<=\d{8}:.{35})",
    r"https://discord(?:app)?\.com/api/webhooks/\d+/[0-9A-Za-z_-]{40,}",
    r"\.webhook\.office\.com/webhookb2/[0-9a-f-]{36}",
)
OURS = (HuggingFace, ExperimentTracker, GitHub, LanguageModel, Cloud, Login, LockedKey, Messenger)


def is_example(secret: str, line: str) -> bool:
    """Whether what was found stands for a secret in documentation: a filter of detect-secrets."""
    if secret.endswith("EXAMPLE"):  # as AWS writes its own
        return True
    password = f":{secret}@" in line
    return password and (len(secret) < _SHORTEST_PASSWORD or _EXAMPLES.fullmatch(secret) is not None)
