"""`msa data convert`: a line with sizes, exit codes, and where else it is pointed to."""

from __future__ import annotations

import errno
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from orchestrator.cli import main


def raw(count: int = 12) -> dict[str, dict[str, object]]:
    """A corpus in the MMSA layout."""
    draws = np.random.default_rng(3)
    return {
        split: {
            "text": draws.normal(size=(count, 4)),
            "audio": draws.normal(size=(count, 5, 3)).astype(np.float32),
            "regression_labels": draws.uniform(-3, 3, count),
            "settings": {},
        }
        for split in ("train", "valid", "test")
    }


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a corpus in it."""
    monkeypatch.chdir(tmp_path)
    Path("a.pkl").write_bytes(pickle.dumps(raw()))
    return tmp_path


def code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_conversion_is_one_line_with_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("data", "convert", "a.pkl", "a.npz") == 0
    said = capsys.readouterr().out
    line = (
        r"a\.pkl \(0\.0 MB\) -> a\.npz \(0\.0 MB\): train 12, valid 12, test 12; text 4, audio 5x3; "
        r"left out settings, which no array can hold\n"
    )
    assert re.fullmatch(line, said)
    assert code("data", "convert", "a.pkl", "a.npz") == 2
    assert capsys.readouterr().err == "error: a.npz is there already; --force replaces it\n"
    assert code("data", "convert", "a.pkl", "a.npz", "--force") == 0


def test_a_full_disk_is_out_of_reach_and_the_same_command_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np.lib.format, "write_array", full)
    assert code("data", "convert", "a.pkl", "a.npz") == 3
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("error: cannot write a.npz: No space left on device; nothing was left there")
    assert last == "go on with: msa data convert a.pkl a.npz"
    assert os.listdir(folder) == ["a.pkl"]


def test_a_folder_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("data", "convert", "a.pkl", "no/a.npz") != 0
    assert "cannot write no/a.npz: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sweep", "describe", "data"])
def test_commands_on_a_file_that_runs_code_point_to_its_conversion(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a b.pt").write_bytes(b"")
    asked = ("data", "describe", "a b.pt") if command == "data" else (command, "cpsl", "--data", "a b.pt")
    assert code(*asked) == 2
    assert capsys.readouterr().err == (
        "error: a b.pt: opening a .pt file runs code that is in it, so it was not opened; if you trust where it comes "
        "from, convert it once: msa data convert 'a b.pt' 'a b.npz' --trust\n"
    )


def test_the_help_says_what_trust_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("data", "convert", "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "THIS RUNS CODE THAT IS IN THE FILE" in said
    assert "msa data convert mosei.pt mosei.npz --trust" in said
