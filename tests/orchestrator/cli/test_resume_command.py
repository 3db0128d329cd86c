"""`msa resume --retry-failed`: which failed trials, with what change; and what it would do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.run import launch
from orchestrator.run.messages import Assignment
from orchestrator.run.preparation import prepare
from orchestrator.store import Store
from search_spaces.loading import validate
from tests.orchestrator.run import fakes

EXPERIMENT = {
    "method": "cpsl",
    "data": {"source": "synthetic", "options": {"num_train": 16, "num_valid": 8, "num_test": 8}},
    "objective": {"metric": "valid/mae"},
    "config": {"training.epochs": 3},
    "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    "search": {"trials": 6, "pruner": {"kind": "none"}},
    "confirm": {"seeds": 0},
}


def large(assignment: Assignment, corpus: Any) -> fakes.ToyRun:
    """Trial 1 does not fit unless its batch is small, and trial 2 never works."""
    if assignment.number == 1 and "training.batch_size" not in assignment.changes:
        raise MemoryError("out of memory")
    if assignment.number == 2:
        raise TypeError("no such thing")
    return fakes.ToyRun(assignment)


@pytest.fixture(autouse=True)
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`runs` has two failed trials, of two causes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run", fakes.driver(large))
    monkeypatch.setattr(launch, "provenance", lambda: fakes.PROVENANCE)
    prepared = prepare(validate(EXPERIMENT))
    fakes.play("runs", prepared.plan.studies, workload=large, kept=launch.record_of(prepared, fakes.PROVENANCE))


def msa(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["resume", "runs", *arguments])
    assert isinstance(end.value.code, int)
    return end.value.code


def changes() -> dict[int, tuple[str, Any]]:
    rows = Store.open("runs").trials().to_pylist()
    return {row["number"]: (row["state"], row["changes"] and json.loads(row["changes"])) for row in rows}


def content() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}


def test_a_dry_run_shows_trials_by_cause_and_study_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = content()
    asked = ("--retry-failed", "--cause", "out_of_memory,code", "--set", "training.batch_size=16", "--dry-run")
    assert msa(*asked) == 0
    first, _, header, _, *rows, _, last = capsys.readouterr().out.splitlines()
    assert first.startswith("failed trials that are trained again: 2 (1 out_of_memory, 1 code), with training.batch_")
    assert header.split() == ["cause", "study", "trials", "which", "change"]
    assert rows[0].split() == ["out_of_memory", "full", "1", "search", "1", "training.batch_size=16"]
    assert last == "4 of 6 planned trials are finished otherwise; nothing was written"
    assert max(map(len, (header, *rows))) <= 80
    assert content() == before
    assert msa("--dry-run") == 0
    assert capsys.readouterr().out.startswith("no failed trial is trained again; there are 1 out_of_memory, 1 code")
    assert content() == before


@pytest.mark.slow
def test_only_the_causes_that_are_named_are_trained_again_with_the_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert msa("--retry-failed", "--cause", "out_of_memory", "--set", "training.batch_size=16") == 1  # of trial 2
    said = capsys.readouterr()
    line = "failed trials that are trained again: 1 (1 out_of_memory), with training.batch_size=16"
    assert line in said.err
    assert "1 trial was trained with training.batch_size=16 after a failure" in " ".join(said.out.split())
    assert changes()[1] == ("COMPLETE", {"training.batch_size": 16})
    assert {number for number, (state, changed) in changes().items() if changed or state == "FAIL"} == {1, 2}
    assert msa("--retry-failed", "--cause", "time") == 1
    assert "no failed trial is trained again; there are 1 code" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--retry-failed", "--cause", "out_of_memry"), "Did you mean 'out_of_memory'?"),
        (("--retry-failed", "--cause", "oom"), "expected some of out_of_memory, non_finite, worker_lost, time, "),
        (("--retry-failed", "--set", "training.batch_size=64"), "expected at most 32"),
        (("--retry-failed", "--set", "resources.gpus=1"), "Did you mean 'resources.gpu'?"),
        (
            ("--retry-failed", "--cause", ""),
            "got --cause '', expected what trials failed of, as `msa failures` says it",
        ),
        (("--retry-failed", "--only", "x,"), "got --only 'x,', expected trials as `msa failures` lists them"),
        (("--cause", "time"), "--cause has an effect only with --retry-failed"),
        (("--set", "resources.gpu=1"), "--set has an effect only with --retry-failed"),
        (("--retry-failed", "--set", "resources.gpu=2", "--gpus", "1"), "got --gpus 1, but a trial takes 2"),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_is_written(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content()
    for dry_run in ((), ("--dry-run",)):
        assert msa(*arguments, *dry_run) == 2
        assert message in capsys.readouterr().err
    assert {name: data for name, data in content().items() if ".lease" not in name} == before
