"""Where a result comes from: the commit, a fingerprint of the model code, the versions of what computes."""

import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msa_models

GIT_COMMIT = "MSA_GIT_COMMIT"  # goes with a submitted working tree, which travels without its repository
PACKAGES = ("msa-sweeps", "torch", "transformers", "tokenizers", "ray", "optuna", "numpy", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The same for every trial of one driver run."""

    git_commit: str  # "" outside a repository; "-dirty" where files differ from the commit
    code_fingerprint: str
    versions: dict[str, str]


def provenance() -> Provenance:
    """Read off the installed packages; imports none of them."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    commit = os.environ.get(GIT_COMMIT) or git_commit(Path(msa_models.__file__).parent.parent)
    return Provenance(git_commit=commit, code_fingerprint=code_fingerprint(), versions=versions)


def code_fingerprint() -> str:
    """16 hex digits over every source file of `msa_models` but its test suites: what can change a trial's numbers."""
    root = Path(msa_models.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*.py") if path.relative_to(root).parts[0] != "testing"):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def git_commit(folder: Path) -> str:
    """The commit that is checked out there, and whether files differ from it; "" outside a repository."""
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()
