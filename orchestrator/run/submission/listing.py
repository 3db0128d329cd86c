"""The files of a folder that are its own: as git knows them, or, without git, all that does not look foreign."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

RAYIGNORE, GITIGNORE = ".rayignore", ".gitignore"
IGNORED, CACHES, ENVIRONMENT, REPOSITORY, RUNS, HIDDEN, EMPTY, UNREADABLE = (
    *("ignored", "caches", "virtual environments", "other repositories", "runs", "hidden folders"),
    *("submodules that are not checked out", "folders that cannot be read"),
)
_CACHE = re.compile(r"__pycache__|node_modules|\.hypothesis|\..*_cache|\.cache|.*\.egg-info")
_RUNS = ("wandb", "mlruns", "lightning_logs", "multirun", "ray_results")
_REPOSITORIES = (".git", ".hg", ".svn", ".jj")
_GIT_LIMIT_S = 120.0


@dataclass
class Listing:
    """Paths below a folder, with slashes: of files and links that are its own, and of what stays, with the reason.

    What stays may be a whole folder. `by_git`: git told all this; `notes`: what is worth a line, as that git refuses.
    """

    own: set[str] = field(default_factory=set)
    stays: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    by_git: bool = False


class GitRefuses(Exception):
    """Git is missing, or does not tell what is under version control; why, in its own words."""


def listed(folder: Path) -> Listing:
    """Look at the folder. In a work tree of git: what is under version control, or new and not ignored, also below
    submodules; elsewhere all but what looks foreign, and nothing of a home. What a .rayignore names stays always.
    """
    notes = []
    if any((above / ".git").exists() for above in (folder, *folder.parents)):
        try:
            by_git = _ByGit(folder).listing
            if by_git.own:
                return by_git
            why = "git knows no file here"
        except GitRefuses as refused:
            why = str(refused)
        notes = [f"{why}: what goes is all that neither looks foreign nor is named by an ignore file"]
    if folder.resolve() in (Path.home().resolve(), Path("/")):
        return Listing(notes=[*notes, "of a home nothing goes but what --send names; cd to the folder of a project"])
    listing = _by_looks(folder)
    listing.notes += notes
    return listing


class _ByGit:
    """What git tells of a work tree, and of its submodules."""

    def __init__(self, root: Path) -> None:
        self._root, self._foreign, self._ignore = root, _Foreign(root, hidden=None), _IgnoreFiles(root, RAYIGNORE)
        self.listing = Listing(by_git=True)
        self._look("")

    def _look(self, below: str) -> None:
        self._foreign.accept(below.rstrip("/"))
        under_control = set(_git(self._root / below, "ls-files", "--cached"))
        new = set(_git(self._root / below, "ls-files", "--others", "--exclude-standard"))
        ignored = _git(self._root / below, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory")
        self.listing.stays |= {(below + path).rstrip("/"): IGNORED for path in ignored}
        for path in under_control:
            self._take(below + path)
        for path in new - under_control:
            looks = self._foreign.reason((below + path).rstrip("/").rpartition("/")[0])
            if looks is None:
                self._take(below + path)
            else:
                self.listing.stays[looks[0]] = looks[1]

    def _take(self, path: str) -> None:
        at = self._root / path
        if self._ignore.ignores(path):
            self.listing.stays[path] = IGNORED
        elif path.endswith("/"):  # a repository of its own, which git does not look into
            self.listing.stays[path.rstrip("/")] = REPOSITORY
        elif at.is_dir() and not at.is_symlink():  # of a submodule git tells only where it is
            if (at / ".git").exists():
                self._look(f"{path}/")
            else:
                self.listing.stays[path] = EMPTY
        elif os.path.lexists(at):
            self.listing.own.add(path)


def _git(folder: Path, *arguments: str) -> list[str]:
    """Paths that git lists, relative to the folder. No program that a repository's configuration names is run."""
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments, "-z"]
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        ended = subprocess.run(command, capture_output=True, env=environment, timeout=_GIT_LIMIT_S, check=False)
    except FileNotFoundError:
        raise GitRefuses("this is a work tree of git, and there is no git here") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise GitRefuses(f"git does not list the files of {folder} ({type(error).__name__})") from error
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {ended.returncode}"]
        raise GitRefuses(f"git refuses to list the files of {folder} ({said[0].removeprefix('fatal: ')})")
    return [os.fsdecode(path) for path in ended.stdout.split(b"\0") if path]


def _by_looks(root: Path) -> Listing:
    listing, foreign = Listing(), _Foreign(root, hidden=HIDDEN)
    ignores = [_IgnoreFiles(root, GITIGNORE), _IgnoreFiles(root, RAYIGNORE)]

    def unreadable(error: OSError) -> None:
        listing.stays[Path(error.filename).relative_to(root).as_posix()] = UNREADABLE

    for at, folders, files in os.walk(root, onerror=unreadable):
        above = Path(at).relative_to(root).as_posix()
        prefix = "" if above == "." else f"{above}/"
        for name in list(folders):
            path = prefix + name
            if (root / path).is_symlink():
                files.append(name)  # looked at as a link
            elif any(each.ignores_folder(path) for each in ignores):
                listing.stays[path] = IGNORED
            elif (looks := foreign.reason(path)) is not None:
                listing.stays[path] = looks[1]
            else:
                continue
            folders.remove(name)
        for name in files:
            if any(each.ignores(prefix + name) for each in ignores):
                listing.stays[prefix + name] = IGNORED
            elif name not in (".DS_Store", ".git"):
                listing.own.add(prefix + name)
    return listing


class _Foreign:
    """Which folders look as if they were not of what a user works on; `hidden`: as what one with a dot does."""

    def __init__(self, root: Path, hidden: str | None) -> None:
        self._root, self._hidden = root, hidden
        self._known: dict[str, tuple[str, str] | None] = {"": None}

    def accept(self, folder: str) -> None:
        """A folder that is not, whatever it looks like: a submodule looks like another repository."""
        self._known[folder] = None

    def reason(self, folder: str) -> tuple[str, str] | None:
        """The outermost folder at or above this one that looks foreign, and as what."""
        if folder not in self._known:
            above = self.reason(folder.rpartition("/")[0])
            looks = None if above else self._looks(folder)
            self._known[folder] = above or ((folder, looks) if looks else None)
        return self._known[folder]

    def _looks(self, folder: str) -> str | None:
        name, entries = folder.rpartition("/")[2], self._root / folder
        if name in (".venv", "venv") or (entries / "pyvenv.cfg").exists() or (entries / "conda-meta").exists():
            return ENVIRONMENT
        if any((entries / each).exists() for each in _REPOSITORIES):
            return REPOSITORY
        if _CACHE.fullmatch(name) or (entries / "CACHEDIR.TAG").exists():
            return CACHES
        storage = (entries / "experiment.json").exists() and (entries / "trials").exists()
        if folder == "runs" or name in _RUNS or storage:
            return RUNS
        return self._hidden if name.startswith(".") else None


class _IgnoreFiles:
    """All ignore files of one name (`.gitignore`, or another) below a folder, read as git reads them: each rules what
    lies below its own folder, the deepest first.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._root, self._name = root, name
        self._specs: dict[str, GitIgnoreSpec | None] = {}
        self._folders: dict[str, bool] = {"": False}

    def ignores(self, path: str) -> bool:
        """Whether the file at this path (relative, with slashes) is named by one, or lies in a folder that is."""
        return self.ignores_folder(path.rpartition("/")[0]) or self._named(path, path)

    def ignores_folder(self, path: str) -> bool:
        """The same of a folder; nothing below one that is ignored can be taken back."""
        if path not in self._folders:
            self._folders[path] = self.ignores_folder(path.rpartition("/")[0]) or self._named(path, f"{path}/")
        return self._folders[path]

    def _named(self, path: str, asked: str) -> bool:
        above = path
        while above:
            above = above.rpartition("/")[0]
            spec = self._spec(above)
            named = None if spec is None else spec.check_file(asked[len(above) + bool(above) :]).include
            if named is not None:
                return named
        return False

    def _spec(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._specs:
            path = self._root / folder / self._name
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else None
            self._specs[folder] = None if lines is None else GitIgnoreSpec.from_lines(lines)
        return self._specs[folder]
