"""What of a folder goes with a job: links, sizes, secrets, what is named, and the archive."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from orchestrator.run.submission import working_tree
from orchestrator.run.submission.working_tree import SecretsError, TreeError, WorkingTree

ROOT = Path(__file__).parents[4]


def write(folder: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture(params=["git", "no git"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder, with and without git, and another one beside it."""
    write(tmp_path / "here", "a.py", "data/mosi.pkl", "data/deep/b.txt")
    write(tmp_path / "here", ".gitignore", text="*.big\n")
    write(tmp_path, "elsewhere/c.txt", "elsewhere/deep/d.txt")
    if request.param == "git":
        subprocess.run(["git", "init", "-q", str(tmp_path / "here")], check=True)
    return tmp_path / "here"


def packed(tree: WorkingTree) -> dict[str, bytes]:
    with tree.packed() as path, ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_link_that_stays_within_goes_as_what_it_leads_to(folder: Path) -> None:
    (folder / "link.pkl").symlink_to("data/mosi.pkl")
    (folder / "again.pkl").symlink_to(folder / "link.pkl")
    (folder / "linked").symlink_to("data", target_is_directory=True)
    (folder / "data" / "deep" / "up.py").symlink_to("../../a.py")
    write(folder, "data/mosi.pkl", text="corpus")
    sent = packed(WorkingTree.of(folder))
    assert sent["link.pkl"] == sent["again.pkl"] == sent["linked/mosi.pkl"] == b"corpus"
    assert sent["linked/deep/b.txt"] == sent["data/deep/up.py"] == sent["linked/deep/up.py"] == b"x"


def test_a_link_that_leads_out_is_broken_or_goes_round_stays_and_a_line_says_so(folder: Path) -> None:
    for name, target in {
        "file.txt": "../elsewhere/c.txt",
        "outside": "../elsewhere",
        "passwords": "/etc/passwd",
        "over": "over",
        "broken": "nowhere",
        "data/around": "..",
        "behind": "corpus.big",
    }.items():
        (folder / name).symlink_to(target)
    (folder / "further.txt").symlink_to("file.txt")  # within, to one that leads out
    (folder / "round.py").symlink_to("../here/a.py")  # out and in again
    write(folder, "corpus.big")
    tree = WorkingTree.of(folder)
    assert set(tree.sizes) == {"a.py", ".gitignore", "data/mosi.pkl", "data/deep/b.txt", "round.py"}
    assert {path: tree.stays[path] for path in tree.stays if path != "corpus.big"} == {
        **dict.fromkeys(["file.txt", "outside", "passwords", "further.txt"], "links out of the folder"),
        **dict.fromkeys(["over", "broken"], "broken links"),
        "data/around": "links to a folder around them",
        "behind": "links to what stays",
    }
    assert tree.notes == [
        "links out of the folder, which stay here: file.txt, further.txt, outside, …",
        "broken links, which stay here: broken, over",
    ]


def test_what_is_named_goes_whatever_speaks_against_it(folder: Path) -> None:
    (folder / "outside").symlink_to("../elsewhere")
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder.parent / "elsewhere" / "e").symlink_to("/etc/passwd")  # not named itself
    write(folder, "corpus.big", ".venv/lib/x.py", "__pycache__/y.pyc")
    tree = WorkingTree.of(folder, ["corpus.big", "outside/", "passwd", ".venv"])
    assert {*("corpus.big", "outside/c.txt", "outside/deep/d.txt", "passwd", ".venv/lib/x.py")} < set(tree.sizes)
    assert packed(tree)["outside/deep/d.txt"] == b"x"
    assert tree.stays["outside/e"] == "links out of the folder"
    assert "__pycache__/y.pyc" not in tree.sizes


@pytest.mark.parametrize(("path", "why"), [("../elsewhere", "lies outside of it"), ("no.txt", "does not exist")])
def test_what_cannot_be_named_is_one_line(folder: Path, path: str, why: str) -> None:
    with pytest.raises(TreeError, match=f"got --send {path}, which {why}; expected a file or a folder below"):
        WorkingTree.of(folder, [path])


def test_all_secrets_are_refused_in_one_line_unless_they_are_named(folder: Path) -> None:
    token = "hf_" + "".join(random.Random(0).choices("abcdefgh", k=34))
    write(folder, ".env", "deploy.pem", "src/id_rsa", text="x")
    write(folder, "notes.md", text=f"\nmy token is {token}\n")
    tree = WorkingTree.of(folder)
    with pytest.raises(SecretsError) as told:
        tree.check()
    assert str(told.value) == (
        "nothing is sent: 4 files look like secrets: .env (its name), deploy.pem (its name), notes.md (line 2: Hugging "
        "Face token), src/id_rsa (its name); keep a file here by a line in .rayignore; one that is none goes with "
        "--send .env"
    )
    assert token not in str(told.value)
    with pytest.raises(SecretsError, match=r"2 files look like secrets: deploy.pem .*, src/id_rsa"):
        WorkingTree.of(folder, ["src"]).check([".env", "src", "notes.md"])  # a folder names none of what is in it
    tree.check([".env", "./src/id_rsa", "notes.md", "deploy.pem"])
    write(folder, ".rayignore", text=".env\n*.pem\nid_*\nnotes.md\n")
    WorkingTree.of(folder).check()


def test_what_is_not_looked_into_is_told_unless_it_is_named(folder: Path) -> None:
    write(folder, "a.7z", "data/b.tar.zst", "c.gz")
    told = ["archives that are not looked into for secrets, which go: a.7z, data/b.tar.zst"]
    assert list(WorkingTree.of(folder).notes) == told
    assert list(WorkingTree.of(folder, ["a.7z", "data/b.tar.zst"]).notes) == []


def test_many_secrets_are_still_one_line(folder: Path) -> None:
    write(folder, *(f"keys/{number:03}.pem" for number in range(300)))
    with pytest.raises(SecretsError, match=r"300 files look like secrets: .* and 280 more; ") as told:
        WorkingTree.of(folder).check()
    assert len(str(told.value)) < 1_000


@pytest.mark.slow
def test_this_repository_can_be_sent() -> None:
    tree = WorkingTree.of(ROOT)
    assert len(tree.sizes) > 500
    tree.check()


def test_neither_pipes_nor_names_that_do_not_arrive_go(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    write(folder, "a\\b.py", "new\nline.py")
    (folder / os.fsdecode(b"\xff.py")).write_text("x")
    tree = WorkingTree.of(folder)
    assert {"new\nline.py", "a.py"} < set(tree.sizes)
    assert "pipe" not in tree.sizes  # git does not even tell of it
    assert tree.notes == [r"names that no cluster takes, which stay here: a\b.py, \udcff.py"]
    assert "pipe" not in packed(tree)


def test_a_folder_that_is_too_large_is_refused_with_its_largest_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working_tree, "LARGEST", 3_000_000)
    for name in ("one.pkl", "two.pkl"):
        (folder / name).write_bytes(bytes(2_000_000))
    with pytest.raises(TreeError, match=r"4\.0 MB, Ray takes 3\.0 MB; the largest are one\.pkl \(2\.0 MB\), two\.pkl"):
        WorkingTree.of(folder).check()
    write(folder, ".rayignore", text="one.pkl\n")
    WorkingTree.of(folder).check()


def test_what_a_head_takes_is_what_ray_says() -> None:
    from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE

    assert working_tree.LARGEST == DASHBOARD_CLIENT_MAX_SIZE


def test_without_git_a_file_that_no_head_takes_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_tree, "LARGEST", 1_000)
    (folder / "one.pkl").write_bytes(bytes(2_000))
    tree = WorkingTree.of(folder)
    assert ("one.pkl" in tree.sizes) == (folder / ".git").exists()


def test_the_archive_is_the_same_for_the_same_files_and_keeps_what_can_be_run(folder: Path) -> None:
    write(folder, "run.sh")
    (folder / "run.sh").chmod(0o755)
    tree = WorkingTree.of(folder)
    with tree.packed() as one, tree.packed() as other:
        (folder / "a.py").touch()
        assert one.read_bytes() == other.read_bytes()
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in ZipFile(one).infolist()}
    assert (modes["run.sh"], modes["a.py"]) == (0o755, 0o644)
    assert not one.exists()


def test_ray_unpacks_what_is_packed(folder: Path, tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import unzip_package

    tree = WorkingTree.of(folder)
    with tree.packed() as path:
        unzip_package(str(path), str(tmp_path / "there"), remove_top_level_directory=False, unlink_zip=False)
    there = tmp_path / "there"
    assert {each.relative_to(there).as_posix() for each in there.rglob("*") if each.is_file()} == set(tree.sizes)


@pytest.mark.parametrize("look", [lambda tree: tree.check(), packed])
def test_a_file_that_cannot_be_read_is_one_line(folder: Path, look: Callable[[WorkingTree], object]) -> None:
    tree = WorkingTree.of(folder)
    (folder / "a.py").unlink()
    with pytest.raises(TreeError, match=r"cannot read .*a\.py \(No such file or directory\); keep a file here"):
        look(tree)
