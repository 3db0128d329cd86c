"""A run whose first trials all fail alike ends early, and says why."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from msa_models.data import CorpusError
from orchestrator.cli import main
from orchestrator.run import launch
from orchestrator.run.campaign import Campaign
from orchestrator.run.failing_start import FailingStart
from orchestrator.run.messages import Assignment, Failure
from orchestrator.run.ray_backend.tune_state import TuneState
from orchestrator.run.retries import ACCUMULATE, BATCH
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.store import Store
from tests.orchestrator.run import fakes

TINY = "data.options={num_train: 16, num_valid: 8, num_test: 8, layout: utterances}"
BROKEN = Failure(error_type="TypeError", message="oh\nno", traceback='  File "/x/step.py", line 88, in take\n')
OTHER = Failure(error_type="TypeError", message="oh", traceback='  File "/x/step.py", line 99, in take\n')


def broken(assignment: Assignment, corpus: Any) -> fakes.ToyRun:
    """Nothing works."""
    raise TypeError("no such thing")


def test_so_many_that_fail_alike_before_any_succeeds_are_enough() -> None:
    start = FailingStart(3)
    for failure in (BROKEN, OTHER, BROKEN, OTHER):
        start.failed(failure, 0, [])
        assert not start.said
    start.failed(BROKEN, 0, [0])
    assert start.said == (
        "stopped: the first trials fail alike, 3 of error in the code (TypeError at step.py:88 in take): oh; no other "
        "was begun (resources.stop_after_failures)"
    )


@pytest.mark.parametrize(("num_running", "enough"), [(0, 5), (1, 5), (2, 6), (7, 16)])
def test_unless_a_number_was_asked_for_it_is_five_or_twice_the_trials_at_a_time(num_running: int, enough: int) -> None:
    start = FailingStart(None)
    said = []
    for _ in range(enough):
        start.failed(BROKEN, 0, [0] * num_running)
        said.append(bool(start.said))
    assert said == [False] * (enough - 1) + [True]


def test_nothing_ends_a_run_in_which_something_works_or_that_was_told_never_to() -> None:
    never, after, ahead = FailingStart(0), FailingStart(2), FailingStart(2)
    after.succeeded()
    for _ in range(9):
        never.failed(BROKEN, 0, [])
        after.failed(BROKEN, 0, [])
        ahead.failed(BROKEN, 1, [0, 2])  # one that runs is further than these have come
    assert [never.said, after.said, ahead.said] == ["", "", ""]
    ahead.failed(BROKEN, 2, [0, 2])
    assert ahead.said


@pytest.mark.slow
def test_a_run_that_goes_on_where_nothing_has_worked_counts_on(tmp_path: Path) -> None:
    uri = str(tmp_path)
    for number in (5, 6, 7):  # each of them is ended by the next failure alike
        campaign = played(uri, broken, 5)
        assert f"{number} of error in the code" in campaign.stopped
        assert len(fakes.table(uri)) == number
    assert played(uri, fakes.toy, 5).done  # one that works is enough


def test_once_something_has_worked_a_later_run_counts_anew(tmp_path: Path) -> None:
    uri = str(tmp_path)
    planned = fakes.several()
    store = Store.create(uri, fakes.record(planned))
    fakes.train(Campaign(store, planned, fakes.PROVENANCE), uri, most=1)
    for number in (3, 6):
        assert played(uri, broken, 3).stopped
        assert [row["state"] for row in fakes.table(uri)].count("FAIL") == number


def played(uri: str, workload: Any, stop_after: int | None, retry: bool = False) -> Campaign:
    planned = fakes.several()
    again = (lambda failed: {row["trial_id"]: {} for row in failed}) if retry else None
    store = Store.create(uri, fakes.record(planned))
    campaign = Campaign(store, planned, fakes.PROVENANCE, stop_after=stop_after, retry=again)
    campaign.keep_retries()
    fakes.train(campaign, uri, workload=workload)
    return campaign


@pytest.mark.slow
def test_it_counts_over_all_studies_and_what_was_not_begun_stays_planned(tmp_path: Path) -> None:
    uri = str(tmp_path)
    campaign = played(uri, broken, 5)
    assert "5 of error in the code (TypeError at test_failing_start.py:" in campaign.stopped
    assert dict(campaign.states) == {"FAIL": 5}
    assert len({row["study_id"] for row in fakes.table(uri)}) == 3
    campaign = played(uri, fakes.toy, 5)  # without a retry, and the old failures are not counted
    assert (campaign.stopped, campaign.done, campaign.states["FAIL"]) == ("", True, 5)


@pytest.mark.slow
def test_trials_that_fail_again_when_they_are_retried_count_as_any_others(tmp_path: Path) -> None:
    uri = str(tmp_path)
    played(uri, broken, 0)
    assert len(fakes.table(uri)) == 13
    campaign = played(uri, broken, 4, retry=True)
    assert campaign.stopped
    assert sorted(row["attempts"] for row in Store.open(uri).trials().to_pylist()) == [1] * 9 + [2] * 4
    assert played(uri, fakes.toy, 4).done  # the other nine are still to be trained again
    assert [row["state"] for row in fakes.table(uri)].count("FAIL") == 4


def test_a_run_on_ray_is_asked_to_stop(tmp_path: Path) -> None:
    planned = fakes.studies()
    store = Store.create(str(tmp_path), fakes.record(planned))
    state = TuneState(Campaign(store, planned, fakes.PROVENANCE, stop_after=2), lambda: 1, lambda report: None)
    for number in ("a", "b"):
        assert not state.stopping
        assigned = state.suggest(number)
        assert isinstance(assigned, dict)
        runner = TrialRunner(Assignment.from_json(assigned["assignments"][0]), fakes.corpus(), store, broken)
        assert state.report(number, runner.stretch())
    assert state.stopping
    assert not state.stop.interrupted


@pytest.mark.slow
def test_the_command_ends_with_one_says_why_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run", fakes.driver(broken))
    command = shlex.split(f"sweep cpsl --storage runs --trials 20 --set '{TINY}'")
    with pytest.raises(SystemExit) as end:
        main([*command, "--set", "resources.stop_after_failures=3"])
    assert end.value.code == 1
    *_, why, advice, others, more, last = capsys.readouterr().err.splitlines()
    assert why.startswith("stopped: the first trials fail alike, 3 of error in the code (TypeError at")
    assert advice == "what to do: mend the code, then retry with --allow-changed"
    assert others.endswith("start it once more with --set resources.stop_after_failures=0")
    assert more == "more: msa failures runs"
    assert last == "go on with: msa resume runs --retry-failed --allow-changed"
    with pytest.raises(SystemExit):
        main(["resume", "runs"])
    assert "stopped: the first trials fail alike, 4 of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--set", "resources.stop_after_failures=0"])
    said = capsys.readouterr().err
    assert "stopped" not in said
    assert "20 trials failed" in said


def raising(kind: type[Exception]) -> Any:
    def workload(assignment: Assignment, corpus: Any) -> fakes.ToyRun:
        raise kind("oh")

    return workload


NonFiniteLoss = type("NonFiniteLoss", (Exception,), {})
OURS = """
method: cpsl
data: synthetic
objective: {metric: valid/mae}
space: {training.batch_size: {choices: [8, 16]}}
search: {trials: 20}
"""
OF_MEMORY = "--cause out_of_memory"
RETRY = "go on with: msa resume runs --retry-failed"


@pytest.mark.parametrize(
    ("kind", "experiment", "said", "last"),
    [
        (MemoryError, "ours.yaml", "more room", f"{RETRY} {OF_MEMORY} --set resources.cpu=2"),  # it searches the batch
        (MemoryError, "cpsl", "smaller batch", f"{RETRY} {OF_MEMORY} --set {BATCH}=16 --set {ACCUMULATE}=2"),
        (NonFiniteLoss, "cpsl", "search a smaller learning rate", ""),
        (CorpusError, "cpsl", "values that do not fit together", ""),
    ],
)
def test_what_is_offered_is_a_change_that_may_help_or_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[Exception],
    experiment: str,
    said: str,
    last: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run", fakes.driver(raising(kind)))
    Path("ours.yaml").write_text(OURS)
    with pytest.raises(SystemExit):
        main(shlex.split(f"sweep {experiment} --storage runs --trials 20 --set '{TINY}'"))
    lines = capsys.readouterr().err.splitlines()
    assert any(said in line for line in lines)
    assert lines[-1] == (last or "more: msa failures runs")
    if last:
        with pytest.raises(SystemExit) as end:
            main([*shlex.split(last.removeprefix("go on with: msa ")), "--dry-run"])
        assert end.value.code == 0
    else:
        assert "start it in a new storage" in " ".join(lines)
