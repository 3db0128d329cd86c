"""Which files of a folder are its own: as git knows them, or as they look."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.run.submission.listing import (
    CACHES,
    EMPTY,
    ENVIRONMENT,
    HIDDEN,
    IGNORED,
    REPOSITORY,
    RUNS,
    Listing,
    listed,
)


def write(folder: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def git(folder: Path, *arguments: str) -> None:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always")
    subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository: `a.py` is under version control, and so is `kept.log` although it is ignored."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    folder = tmp_path / "repository"
    write(folder, "a.py", "kept.log", "gone.py")
    write(folder, ".gitignore", text="*.log\nbig/\n")
    git(folder, "init", "-q")
    git(folder, "add", "a.py", ".gitignore", "gone.py")
    git(folder, "add", "--force", "kept.log")
    git(folder, "commit", "-qm", "x")
    (folder / "gone.py").unlink()
    return folder


def test_what_is_under_version_control_or_new_and_not_ignored_is_own(repository: Path) -> None:
    write(repository, "new.py", "other.log", "big/corpus.pkl", ".github/workflows/ci.yml", "ä ö\n.py")
    listing = listed(repository)
    assert listing.own == {"a.py", "kept.log", ".gitignore", "new.py", ".github/workflows/ci.yml", "ä ö\n.py"}
    assert listing.stays == {"other.log": IGNORED, "big": IGNORED}
    assert listing.notes == []


def test_what_only_the_repository_or_the_user_excludes_stays_too(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, "mine.txt", "yours.txt", "new.txt")
    write(repository, ".git/info/exclude", text="mine.txt\n")
    write(tmp_path, "excludes", text="yours.txt\n")
    write(tmp_path, "gitconfig", text=f"[core]\nexcludesFile = {tmp_path}/excludes\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert listed(repository).own == {"a.py", "kept.log", ".gitignore", "new.txt"}


def test_of_a_folder_in_a_repository_what_lies_below_it_is_own(repository: Path) -> None:
    write(repository, "sub/b.py", "sub/x.log", "sub/deep/c.py")
    git(repository, "add", "sub/b.py")
    assert listed(repository / "sub").own == {"b.py", "deep/c.py"}


def test_a_rayignore_keeps_here_what_is_under_version_control(repository: Path) -> None:
    write(repository, "sub/b.py", "sub/c.py", "sub/data/d.py")
    write(repository, "sub/.rayignore", text="*.py\n!c.py\ndata/\n!data/d.py\n")
    git(repository, "add", ".")
    assert listed(repository).own == {"a.py", "kept.log", ".gitignore", "sub/c.py", "sub/.rayignore"}


def test_what_is_new_and_looks_foreign_stays_though_nothing_ignores_it(repository: Path) -> None:
    write(repository, "runs/a/trials/x.parquet", "mine/pyvenv.cfg", "mine/lib/x.py", "clone/x.py")
    git(repository / "clone", "init", "-q")
    listing = listed(repository)
    assert listing.own == {"a.py", "kept.log", ".gitignore"}
    assert listing.stays == {"runs": RUNS, "mine": ENVIRONMENT, "clone": REPOSITORY}


def test_a_submodule_goes_as_git_knows_it_and_one_that_is_not_checked_out_is_told(
    repository: Path, tmp_path: Path
) -> None:
    write(tmp_path / "lib", "l.py", ".gitignore", text="*.log\n")
    git(tmp_path / "lib", "init", "-q")
    git(tmp_path / "lib", "add", ".")
    git(tmp_path / "lib", "commit", "-qm", "x")
    for name in ("here", "not_here"):
        git(repository, "submodule", "add", "-q", str(tmp_path / "lib"), f"libs/{name}")
    git(repository, "submodule", "deinit", "-f", "libs/not_here")
    write(repository, "libs/here/new.py", "libs/here/x.log")
    listing = listed(repository)
    assert {path for path in listing.own if path.startswith("libs")} == {
        *("libs/here/l.py", "libs/here/new.py", "libs/here/.gitignore")
    }
    assert listing.stays == {"libs/here/x.log": IGNORED, "libs/not_here": EMPTY}


def test_no_program_that_a_repository_names_is_run(repository: Path, tmp_path: Path) -> None:
    write(tmp_path, "monitor", text=f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "monitor").chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(tmp_path / "monitor"))
    listed(repository)
    assert not (tmp_path / "ran").exists()


def without_git(path: Path, monkeypatch: pytest.MonkeyPatch, script: str = "") -> None:
    """A PATH on which git is missing, or is a script."""
    path.mkdir()
    if script:
        (path / "git").write_text(f"#!/bin/sh\n{script}\n")
        (path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(path))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "this is a work tree of git, and there is no git here"),
        (
            "echo \"fatal: detected dubious ownership in repository at '/x'\" >&2; exit 128",
            "detected dubious ownership",
        ),
        ("exit 3", "exit code 3"),
        ("exit 0", "git knows no file here"),
    ],
)
def test_where_git_does_not_help_the_looks_and_the_ignore_files_decide_and_a_line_says_so(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    write(repository, "new.py", "big/corpus.pkl")
    without_git(tmp_path / "bin", monkeypatch, script)
    listing = listed(repository)
    assert listing.own == {"a.py", ".gitignore", "new.py"}
    assert len(listing.notes) == 1
    assert words in listing.notes[0]


def test_without_git_all_goes_but_what_looks_foreign(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "a.py", "src/b.py", "data/mosi.pkl", "src/runs/c.py", ".rayignore", ".DS_Store")
    write(folder, ".git-is-no-repository", ".vscode/x", "src/__pycache__/b.pyc", "src/.pytest_cache/x", "x.egg-info/y")
    write(folder, "env/pyvenv.cfg", "env/bin/python", "conda/conda-meta/history", "clone/.git/config", "clone/x.py")
    write(folder, "runs/demo/experiment.json", "old/experiment.json", "old/trials/x.parquet", "wandb/run-1/x")
    write(folder, "tagged/CACHEDIR.TAG", "tagged/x")
    listing = listed(folder)
    assert listing.own == {
        *("a.py", "src/b.py", "data/mosi.pkl", "src/runs/c.py", ".rayignore", ".git-is-no-repository")
    }
    assert listing.stays == {
        ".vscode": HIDDEN,
        "src/__pycache__": CACHES,
        "src/.pytest_cache": CACHES,
        "x.egg-info": CACHES,
        "tagged": CACHES,
        "env": ENVIRONMENT,
        "conda": ENVIRONMENT,
        "clone": REPOSITORY,
        "runs": RUNS,
        "old": RUNS,
        "wandb": RUNS,
    }
    assert listing.notes == []


def test_of_a_home_without_git_nothing_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "Documents/tax.pdf", ".bash_history")
    monkeypatch.setenv("HOME", str(tmp_path))
    listing = listed(tmp_path)
    assert listing == Listing(notes=listing.notes)
    assert "of a home nothing goes but what --send names" in listing.notes[0]


PATTERNS = [
    "*.log",
    "/a.py",
    "sub/",
    "!sub/",
    "sub/*",
    "!keep.log",
    "**/deep",
    "b?.py",
    "/sub/**/c.py",
    "# no",
    "\\#x",
    "d e",
]


@pytest.mark.parametrize("turn", range(8))
def test_ignore_files_are_read_as_git_reads_them(repository: Path, tmp_path: Path, turn: int) -> None:
    """Against git itself, on a repository without anything under version control."""
    import random

    chance = random.Random(turn)
    folder = tmp_path / "fresh"
    git(repository, "init", "-q", str(folder))
    names = ("a.py", "b1.py", "x.log", "keep.log", "#x", "d e", "c.py")
    write(folder, *names, *(f"{above}/{name}" for above in ("sub", "sub/deep", "sub/deep/deeper") for name in names))
    for above in ("", "sub/", "sub/deep/"):
        write(folder, f"{above}.gitignore", text="\n".join(chance.sample(PATTERNS, 4)) + "\n")
    by_git = listed(folder)
    assert by_git.by_git
    (folder / ".git").rename(tmp_path / "git")
    assert listed(folder).own == by_git.own
