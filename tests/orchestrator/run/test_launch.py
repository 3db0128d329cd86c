"""What a storage remembers of where things lie, and what it never hears of."""

import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.run import launch
from orchestrator.store import StorageError
from search_spaces.loading import validate
from tests.end_to_end.test_readme import write_corpus
from tests.tiny_encoders import bert


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An experiment that names its corpus by a path relative to the working folder."""
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "mosi.pkl")
    return {"method": "concat", "data": "mosi.pkl", "objective": {"metric": "valid/mae"}}


@pytest.mark.parametrize("job", [False, True], ids=["here", "as a job"])
def test_paths_are_recorded_whole_but_for_a_job_whose_folder_is_another_each_time(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: bool
) -> None:
    if job:
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    record = launch.record_of(launch.prepare(validate(asked)))
    assert record.experiment["data"]["source"] == ("mosi.pkl" if job else str(tmp_path / "mosi.pkl"))


@pytest.mark.parametrize("job", [False, True], ids=["here", "as a job"])
def test_so_are_those_of_text_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: bool) -> None:
    monkeypatch.chdir(tmp_path)
    bert(tmp_path / "own")
    if job:
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    asked = {"method": "concat", "data": "synthetic", "objective": {"metric": "valid/mae"}}
    found = launch.prepare(validate(asked | {"config": {"text_encoder": {"name": "./own"}}}))
    assert list(launch.record_of(found).encoders) == ["./own" if job else str(tmp_path / "own")]


def test_credentials_in_the_command_line_are_refused_before_anything_is_written(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "s3://me:hush@bucket/x"
    monkeypatch.setattr(sys, "argv", ["msa", "sweep", "concat", f"--storage={secret}", "--storage", "runs/x"])
    with pytest.raises(StorageError, match="credentials in its URI is refused") as told:
        launch.launch(launch.prepare(validate(asked)), str(tmp_path / "runs" / "x"))
    assert "hush" not in str(told.value)
    assert not (tmp_path / "runs").exists()
