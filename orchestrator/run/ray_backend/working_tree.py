"""The files of a folder that go with a submitted job: what Ray would send, known before it is sent.

Ray leaves out what .gitignore and .rayignore name, in any folder of the tree; to those comes what never belongs to a
job.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = [
    *(".git", ".venv", "venv", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis", "node_modules"),
    *("/runs", ".env", ".DS_Store", ".ray", ".ssh", ".aws", ".kube", ".netrc"),  # of a home folder: its keys
]
_NUM_SHOWN = 3
_QUIET = logging.getLogger(__name__)  # Ray would name each of the ignore files


class TreeError(ValueError):
    """A folder that cannot be sent, or lacks what the job needs."""


@dataclass(frozen=True, kw_only=True)
class WorkingTree:
    """A folder, and the size of each file of it that is sent by its path below the folder."""

    folder: Path
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, folder: Path) -> WorkingTree:
        """Look at the folder. Raises TreeError where Ray would refuse it, with the largest files."""
        # ray 2.60.0: how a job's folder is packed, and what a head takes; nothing public tells either beforehand
        from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
        from ray._private.runtime_env import packaging

        sizes: dict[str, int] = {}

        def take(path: Path) -> None:
            if path.is_file():
                sizes[path.relative_to(folder).as_posix()] = path.stat().st_size

        left_out = packaging._get_excludes(folder, LEFT_OUT)  # ray 2.60.0
        # ray 2.60.0: with the ignore files of every folder below
        packaging._dir_travel(folder, [left_out], take, include_gitignore=True, logger=_QUIET)
        tree = cls(folder=folder, sizes=sizes)
        if tree.size > DASHBOARD_CLIENT_MAX_SIZE:
            largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:_NUM_SHOWN]
            raise TreeError(
                f"{folder} is too large to send: {tree}, Ray takes {_megabytes(DASHBOARD_CLIENT_MAX_SIZE)}; the "
                f"largest are {', '.join(f'{name} ({_megabytes(sizes[name])})' for name in largest)}; name what the "
                "job does not need in .gitignore or .rayignore, and put corpora where every node finds them"
            )
        return tree

    def __str__(self) -> str:
        return f"{len(self.sizes)} file{'s' * (len(self.sizes) != 1)}, {_megabytes(self.size)}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    def has(self, path: str) -> bool:
        """Whether this relative path is a file of the tree, or a folder with some of them."""
        name = Path(os.path.normpath(path)).as_posix()
        return name in self.sizes or any(each.startswith(f"{name}/") for each in self.sizes)

    def require(self, what: str, path: str, otherwise: str = "") -> None:
        """Raise TreeError, with the reason, unless the tree has this path; `otherwise`: what else would do."""
        if self.has(path):
            return
        name = os.path.normpath(path)
        if os.path.isabs(name) or name.startswith(".."):
            why = "lies outside of the folder that is sent with the job"
        elif (self.folder / name).exists():
            why = "is not sent with the job: .gitignore, .rayignore or a rule of this command leaves it out"
        else:
            why = "does not exist"
        raise TreeError(f"{what} {path} {why}; expected a path below {self.folder}{otherwise}")


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"
