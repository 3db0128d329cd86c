"""The current folder as a job gets it: which files go along, which stay and why, and the archive that is sent."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from msa_models.printable import command, one_line
from orchestrator.run.submission.listing import Listing, listed
from orchestrator.run.submission.packed import NOT_UNPACKED
from orchestrator.run.submission.secret_files import contents, named_like_a_secret

LARGEST = 100 * 2**20  # bytes that a head takes
OUTSIDE, BROKEN, AROUND, TO_WHAT_STAYS, NO_FILE, LARGE, NO_NAME = (
    *("links out of the folder", "broken links", "links to a folder around them", "links to what stays"),
    *("neither files nor links", "larger than a cluster takes", "names that no cluster takes"),
)
SHUT = "archives that are not looked into for secrets"
_SAID = (OUTSIDE, BROKEN, LARGE, NO_NAME)  # of what stays, what a user may not expect to stay
_NUM_LARGEST, _NUM_NAMED, _NUM_SECRETS = 3, 3, 20


class TreeError(ValueError):
    """A folder that cannot be sent, or lacks what the job needs."""


class SecretsError(TreeError):
    """Files that look like secrets, and that nobody has named as what is to be sent."""


@dataclass(frozen=True, kw_only=True)
class WorkingTree:
    """A folder; by their paths below it the size in bytes of each file that goes with a job, and why others stay.

    `notes`: lines that a user should see before anything is sent.
    """

    folder: Path
    sizes: Mapping[str, int]
    stays: Mapping[str, str]
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, folder: Path, send: Sequence[str] = ()) -> WorkingTree:
        """Look at the folder; what is at a path of `send` goes whatever speaks against it. Raises TreeError."""
        named = [_below(folder, path) for path in send]
        listing = listed(folder)
        for path in named:
            listing.own.update(_all_at(folder, path))
        return _resolved(folder, listing, named)

    def __str__(self) -> str:
        return f"{len(self.sizes)} file{'s' * (len(self.sizes) != 1)}, {amount(self.size)}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    def check(self, send: Sequence[str] = ()) -> None:
        """Raise SecretsError where a file looks like a secret and is none of `send`, TreeError for too large a tree."""
        if self.size > LARGEST:
            largest = sorted(self.sizes, key=self.sizes.__getitem__, reverse=True)[:_NUM_LARGEST]
            raise TreeError(
                f"{self.folder} is too large to send: {self}, Ray takes {amount(LARGEST)}; the largest are "
                f"{', '.join(f'{one_line(name)} ({amount(self.sizes[name])})' for name in largest)}; name what the job "
                "does not need in .gitignore or .rayignore, and put corpora where every node finds them"
            )
        allowed = {_below(self.folder, path) for path in send}
        found = {path: "its name" for path in sorted(self.sizes) if path not in allowed and named_like_a_secret(path)}
        rest = [self.folder / path for path in sorted(self.sizes) if path not in allowed and path not in found]
        try:
            found |= {at.relative_to(self.folder).as_posix(): why for at, why in contents(rest)}
        except OSError as error:
            raise TreeError(f"cannot read {one_line(str(error.filename))} ({error.strerror}); {_KEEP}") from error
        if found:
            each = [f"{one_line(path)} ({why})" for path, why in sorted(found.items())[:_NUM_SECRETS]]
            more = f" and {len(found) - _NUM_SECRETS} more" if len(found) > _NUM_SECRETS else ""
            first = command(min(found))
            look = "1 file looks like a secret" if len(found) == 1 else f"{len(found)} files look like secrets"
            raise SecretsError(
                f"nothing is sent: {look}: {', '.join(each)}{more}; {_KEEP}; one that is none goes with --send {first}"
            )

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
        elif os.path.lexists(self.folder / name):
            reason = next(
                (self.stays[above] for above in _and_above(name) if above in self.stays), "nothing lies in it"
            )
            raise TreeError(
                f"{what} {path} is not sent with the job ({reason}); --send {command(path)} sends it{otherwise}"
            )
        else:
            why = "does not exist"
        raise TreeError(f"{what} {path} {why}; expected a path below {self.folder}{otherwise}")

    def reasons(self) -> list[str]:
        """Of each reason to stay a line: how many, the reason, some of them."""
        counts = Counter(self.stays.values())
        return [f"{count} {reason} ({_some(self.stays, reason)})" for reason, count in counts.most_common()]

    @contextmanager
    def packed(self) -> Iterator[Path]:
        """The archive of the files; the same bytes for the same files, so that a head that has it gets it once."""
        with tempfile.TemporaryDirectory(prefix="msa-submit-") as made:
            path = Path(made) / "tree.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for name in sorted(self.sizes):
                    entry = zipfile.ZipInfo(name)  # of no date
                    runs = os.access(self.folder / name, os.X_OK)
                    entry.external_attr = (stat.S_IFREG | (0o755 if runs else 0o644)) << 16
                    archive.writestr(entry, _bytes(self.folder / name))
            yield path


_KEEP = "keep a file here by a line in .rayignore"


def amount(num_bytes: int) -> str:
    """A size for people."""
    if num_bytes < 1000:
        return f"{num_bytes} B"
    return f"{num_bytes / 1e3:.1f} kB" if num_bytes < 1e6 else f"{num_bytes / 1e6:.1f} MB"


def _some(stays: Mapping[str, str], reason: str) -> str:
    names = sorted(path for path, why in stays.items() if why == reason)
    return ", ".join([*map(one_line, names[:_NUM_NAMED]), *(["…"] if len(names) > _NUM_NAMED else [])])


def _and_above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _below(folder: Path, path: str) -> str:
    """A path that a user gives, relative to the folder, without going through links. Raises TreeError."""
    name = os.path.relpath(os.path.join(folder, path), folder)
    if name.startswith("..") or not os.path.lexists(folder / name):
        why = "lies outside of it" if name.startswith("..") else "does not exist"
        raise TreeError(f"got --send {path}, which {why}; expected a file or a folder below {folder}")
    return Path(name).as_posix()


def _all_at(folder: Path, path: str) -> Iterator[str]:
    """The file there, or all files below, but those of repositories' own folders."""
    if not (folder / path).is_dir():
        yield path
    for at, folders, files in os.walk(folder / path):
        folders[:] = [name for name in folders if name != ".git"]
        for name in files + [name for name in folders if os.path.islink(os.path.join(at, name))]:
            yield os.path.relpath(os.path.join(at, name), folder).replace(os.sep, "/")


def _resolved(folder: Path, listing: Listing, named: Sequence[str]) -> WorkingTree:
    """The tree of what is listed: a link goes as what it leads to where that goes, too, or where it was named."""
    root = os.path.realpath(folder)
    sizes: dict[str, int] = {}
    stays, links = dict(listing.stays), dict[str, str]()
    for path in sorted(listing.own):
        stays.pop(path, None)
        at = folder / path
        by_name = any(path == each or path.startswith(f"{each}/") or each == "." for each in named)
        if not _is_sendable(path):
            stays[path] = NO_NAME
        elif at.is_symlink() and path not in named:
            links[path] = os.path.realpath(at)
        elif not at.exists():
            stays[path] = BROKEN
        elif not stat.S_ISREG((status := at.stat()).st_mode):
            stays[path] = NO_FILE
        elif status.st_size > LARGEST and not listing.by_git and not by_name:
            stays[path] = LARGE
        else:
            sizes[path] = status.st_size
    for to_folders in (False, True):
        known = dict(sizes)
        for path, target in links.items():
            if os.path.isdir(target) == to_folders:
                found = _followed(path, target, root, known)
                if isinstance(found, str):
                    stays[path] = found
                else:
                    sizes |= found
    told = [f"{reason}, which stay here: {_some(stays, reason)}" for reason in _SAID if reason in stays.values()]
    shut = {path: SHUT for path in sizes if path.lower().endswith(NOT_UNPACKED) and path not in named}
    if shut:
        told.append(f"{SHUT}, which go: {_some(shut, SHUT)}")
    return WorkingTree(folder=folder, sizes=sizes, stays=stays, notes=[*listing.notes, *told])


def _followed(path: str, target: str, root: str, sizes: Mapping[str, int]) -> dict[str, int] | str:
    """The files that a link stands for, each under the link's name, or why it stays."""
    if not os.path.exists(target):
        return BROKEN
    within = os.path.relpath(target, root).replace(os.sep, "/")
    if within == ".." or within.startswith("../"):
        return OUTSIDE
    if within == "." or path.startswith(f"{within}/"):
        return AROUND
    if within in sizes:
        return {path: sizes[within]}
    files = {path + each[len(within) :]: size for each, size in sizes.items() if each.startswith(f"{within}/")}
    return files or TO_WHAT_STAYS


def _is_sendable(name: str) -> bool:
    """Whether a name survives an archive: Ray leaves out what has a backslash, without a word."""
    try:
        return bool(name.encode()) and "\\" not in name
    except UnicodeEncodeError:
        return False


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TreeError(f"cannot read {one_line(str(path))} ({error.strerror}); {_KEEP}") from error
