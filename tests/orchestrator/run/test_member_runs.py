"""Search trials of several seeds and folds: what their value is, where they are pruned, and that they go on bitwise."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest

from msa_models.metrics import Direction
from orchestrator.run import trial_runner
from orchestrator.run.campaign import Campaign
from orchestrator.run.curve import at_best, curve
from orchestrator.run.launch import record_of
from orchestrator.run.member_runs import MemberRuns
from orchestrator.run.messages import Assignment, Outcome
from orchestrator.run.preparation import prepare
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.run.workload import train
from orchestrator.store import Store
from search_spaces.loading import validate
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death

WIDTHS = ("text_width", "audio_width", "vision_width")
KINDS = ("epochs", "seeds", "both")
ToyRun = fakes.ToyRun


def studies(rungs: str, **search: Any) -> Any:
    """12 trials of three seeds, of up to 9 epochs each."""
    pruner = {"kind": "asha", "min_epochs": 1, "reduction": 3, "rungs": rungs}
    return fakes.studies(search={"trials": 12, "startup": 4, "seeds": 3, "pruner": pruner} | search)


class Impatient(ToyRun):
    """A toy that ends after as many epochs as its seed says, at most."""

    @property
    def done(self) -> bool:
        return super().done or len(self.measurements) >= 3 + self.assignment.seed % 5


def impatient(assignment: Assignment, corpus: Any) -> ToyRun:
    return Impatient(assignment)


def test_the_value_is_the_mean_over_the_members_of_the_best_of_each(tmp_path: Any) -> None:
    fakes.play(str(tmp_path), studies("epochs", trials=8), workload=impatient)
    store = Store.open(str(tmp_path))
    measured: dict[str, dict[float, list[dict[str, Any]]]] = {}
    for row in store.measurements().to_pylist():
        measured.setdefault(row["trial_id"], {}).setdefault(row["member"], []).append(row)
    states = set()
    for row in store.trials().to_pylist():
        if row["phase"] == "confirm":
            continue
        members = measured[row["trial_id"]]
        best = [min(each["valid/mae"] for each in rows) for rows in members.values()]
        assert list(members) == [1, 2, 3]
        assert row["value"] == row["valid/mae"] == fmean(best)
        assert row["epochs"] == sum(map(len, members.values()))
        assert row["test/mae"] is None
        states.add(row["state"])
    assert states == {"COMPLETE", "PRUNED"}


@pytest.mark.slow
def test_at_epochs_a_trial_is_compared_by_the_mean_of_what_its_members_had_come_to(tmp_path: Any) -> None:
    fakes.play(str(tmp_path), studies("epochs"))
    store = Store.open(str(tmp_path))
    rows = [row for row in store.trials().to_pylist() if row["phase"] == "search"]
    measured = store.measurements().to_pylist()
    for row in rows:
        for epoch, value in json.loads(row["intermediate_values"]).items():
            mine = [each for each in measured if each["trial_id"] == row["trial_id"] and each["epoch"] <= int(epoch)]
            best = [min(each["valid/mae"] for each in mine if each["member"] == member) for member in (1, 2, 3)]
            assert value == fmean(best)
    assert {row["epochs"] for row in rows if row["state"] == "PRUNED"} <= {3, 9}


@pytest.mark.slow
@pytest.mark.parametrize(("rungs", "at"), [("seeds", {9, 18}), ("both", {1, 3, 9, 18})])
def test_members_in_turn_are_pruned_after_each_of_them(tmp_path: Any, rungs: str, at: set[int]) -> None:
    fakes.play(str(tmp_path), studies(rungs))
    rows = [row for row in fakes.table(str(tmp_path)) if row["phase"] == "search"]
    pruned = {row["epochs"] for row in rows if row["state"] == "PRUNED"}
    assert pruned
    assert pruned <= at
    for row in rows:
        assert set(map(int, json.loads(row["intermediate_values"]))) == {each for each in at if each <= row["epochs"]}


@pytest.mark.slow
def test_a_member_that_ends_early_stands_at_its_own_rung(tmp_path: Any) -> None:
    fakes.play(str(tmp_path), studies("seeds"), workload=impatient)
    for row in fakes.table(str(tmp_path)):
        if row["phase"] == "search" and row["state"] == "COMPLETE":
            assert set(json.loads(row["intermediate_values"])) == {"9", "18"}


def test_the_curve_of_members_in_turn_may_get_worse_and_its_last_value_counts() -> None:
    rows = [
        {"epoch": 1, "member": 1, "progress": 1, "valid/mae": 0.5, "valid/corr": 0.1},
        {"epoch": 2, "member": 1, "progress": 4, "valid/mae": 0.6, "valid/corr": 0.9},
        {"epoch": 1, "member": 2, "progress": 5, "valid/mae": float("nan"), "valid/corr": 0.0},
        {"epoch": 2, "member": 2, "progress": 6, "valid/mae": 0.9, "valid/corr": 0.3},
    ]
    assert curve(rows, "valid/mae", Direction.MINIMIZE) == [0.5, 0.5, 0.5, 0.5, float("inf"), 0.7]
    assert at_best(rows, "valid/mae", Direction.MINIMIZE) == (2, {"valid/mae": 0.7, "valid/corr": 0.2})


@pytest.mark.parametrize("rungs", KINDS)
def test_one_seed_and_no_folds_is_the_trial_that_it_always_was(tmp_path: Any, rungs: str) -> None:
    (one,), (plain,) = studies(rungs, seeds=1), fakes.studies(search={"trials": 12, "startup": 4})
    assert Campaign(Store.create(tmp_path, fakes.record((one,))), (one,), fakes.PROVENANCE).next().members is None  # type: ignore[union-attr]
    if rungs == "epochs":
        assert one.study_id == fakes.studies()[0].study_id != plain.study_id
    assert studies(rungs)[0].study_id != studies(rungs, seeds=2)[0].study_id != studies(rungs, folds=2)[0].study_id


@pytest.mark.slow
def test_no_two_trainings_of_a_study_share_a_seed(tmp_path: Any) -> None:
    seeds = []

    def workload(assignment: Assignment, corpus: Any) -> ToyRun:
        seeds.append(assignment.seed)
        return ToyRun(assignment)

    fakes.play(str(tmp_path), studies("epochs", folds=2), workload=workload)
    assert len(seeds) == len(set(seeds)) == 12 * 6 + 2


def test_a_member_that_fails_fails_the_trial_and_is_told(tmp_path: Any) -> None:
    def workload(assignment: Assignment, corpus: Any) -> ToyRun:
        if assignment.phase == "search" and assignment.seed >= 2**32:
            raise RuntimeError("a seed without luck")
        return ToyRun(assignment)

    fakes.play(str(tmp_path), studies("seeds", trials=1), workload=workload)
    (row,) = fakes.table(str(tmp_path))
    assert (row["state"], row["error_message"], row["epochs"]) == ("FAIL", "a seed without luck", 9)


@pytest.mark.slow
@pytest.mark.parametrize("rungs", ["epochs", "both"])
def test_killed_anywhere_and_continued_equals_never_interrupted(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, last_write: Callable[..., None], rungs: str
) -> None:
    planned = studies(rungs, trials=4, seeds=2)
    monkeypatch.setattr(trial_runner, "STRETCH_S", 0.0)
    fakes.play(str(tmp_path / "whole"), planned, workload=impatient)
    num_killed = 0
    for nth in range(3, 36, 8):
        uri = str(tmp_path / str(nth))
        last_write(nth)
        try:
            fakes.play(uri, planned, workload=impatient)
        except Death:
            num_killed += 1
            last_write(0)
            fakes.play(uri, planned, workload=impatient)
        assert fakes.table(uri) == fakes.table(str(tmp_path / "whole")), nth
    assert num_killed > 3


Trained = tuple[list[dict[str, float]], Outcome]


def trial(folder: Any, rungs: str, **members: int) -> Callable[[str], tuple[TrialRunner, Assignment, Store]]:
    """A search trial of several members with real trainings of 3 epochs, whose every step ends a stretch."""
    options = {"num_train": 24, "num_valid": 12, "num_test": 8, "layout": "utterances", **dict.fromkeys(WIDTHS, 4)}
    experiment = validate(
        {
            "method": "concat",
            "data": {"source": "synthetic", "options": options},
            "objective": {"metric": "valid/mae"},
            "config": {"training.epochs": 3, "training.patience": 1, "training.batch_size": 16},
            "space": {"encoder.width": {"choices": [8, 16]}},
            "search": {
                "trials": 1,
                **members,
                "pruner": {"min_epochs": 1, "rungs": rungs},
            },
        }
    )
    prepared = prepare(experiment)

    def made(name: str) -> tuple[TrialRunner, Assignment, Store]:
        store = Store.create(folder / name, record_of(prepared))
        assignment = Campaign(store, prepared.plan.studies, fakes.PROVENANCE).next()
        assert assignment is not None
        corpus = prepared.corpora[assignment.data_fingerprint]
        return TrialRunner(assignment, corpus, store, train), assignment, store

    return made


def trained(runner: TrialRunner, assignment: Assignment, store: Store) -> tuple[Trained, list[bytes]]:
    """Train to the end, with the checkpoint that was the newest after each stretch."""
    measurements, checkpoints = [], []
    while True:
        report = runner.stretch()
        measurements += report.measurements
        if report.end is not None:
            assert isinstance(report.end, Outcome), report.end
            return (measurements, report.end), checkpoints
        checkpoints.append(next(store.checkpoint_read(assignment.trial_id)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rungs", "members", "models"),
    [
        ("epochs", {"seeds": 2, "folds": 2}, {None}),  # whose sizes differ
        ("both", {"folds": 2}, {None}),  # in turn
        ("epochs", {"seeds": 3}, {3.0}),
    ],
    ids=["folds", "folds in turn", "seeds in one pass"],
)
def test_members_taken_up_from_any_checkpoint_end_with_the_same_bits(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, rungs: str, members: dict[str, int], models: set[float | None]
) -> None:
    monkeypatch.setattr(trial_runner, "STRETCH_S", 0.0)
    monkeypatch.setattr(trial_runner, "TIMES_CHECKPOINT", 0.0)
    made = trial(tmp_path, rungs, **members)
    whole, checkpoints = trained(*made("whole"))
    assert len(checkpoints) >= 2
    assert {row.get("train/models") for row in whole[0]} == models
    for number, checkpoint in list(enumerate(checkpoints))[:: max(1, len(checkpoints) // 5)]:  # of every step
        runner, assignment, store = made(str(number))
        epoch = len(json.loads(checkpoint.partition(b"\n")[0])["measurements"])
        store.checkpoint_write(assignment.trial_id, epoch, checkpoint)
        resumed, later = trained(runner, assignment, store)
        assert resumed == whole
        assert [each for each in later if each != checkpoint] == checkpoints[number + 1 :]


def test_a_checkpoint_of_other_members_is_refused_and_changes_nothing(tmp_path: Any) -> None:
    (study,) = studies("both")
    assignment = Campaign(Store.create(tmp_path, fakes.record((study,))), (study,), fakes.PROVENANCE).next()
    assert assignment is not None
    assert assignment.members is not None
    run = MemberRuns(assignment, fakes.corpus(), fakes.toy)
    run.train_epoch()
    other = dataclasses.replace(assignment, members=dataclasses.replace(assignment.members, fold_seed=1))
    for data in (MemberRuns(other, fakes.corpus(), fakes.toy).snapshot(), run.snapshot()[:-1], b"{}", b"\xff"):
        with pytest.raises(ValueError, match="snapshot"):
            run.restore(data)
    assert len(run.measurements) == 1
    assert Assignment.from_json(assignment.to_json()) == assignment
