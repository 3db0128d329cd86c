"""Failed trials trained again with a change: for these trials alone, on file before they begin, in their rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msa_models import data
from orchestrator.findings import failures, status
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.run.campaign import Campaign
from orchestrator.run.launch import record_of
from orchestrator.run.messages import Assignment
from orchestrator.run.preparation import Prepared
from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.retries import Retry, chosen, helping
from orchestrator.store import StorageError, Store
from orchestrator.store.failure_types import FailureType
from orchestrator.views import retry_view, terminal
from search_spaces.faults import ExperimentError
from search_spaces.loading import validate
from tests.orchestrator.run import fakes


def prepared(**changes: Any) -> Prepared:
    """Five search trials and two of the confirmation."""
    asked = {
        "method": "cpsl",
        "data": "synthetic",
        "objective": {"metric": "valid/mae"},
        "config": {"training.epochs": 3},
        "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        "search": {"trials": 5, "startup": 5, "pruner": {"kind": "none"}},
        "confirm": {"seeds": 2},
    }
    experiment, info = validate(asked | changes), CorpusInfo.of(fakes.corpus())
    return Prepared(experiment=experiment, corpora=fakes.corpora(), infos=(info,), plan=plan(experiment, info))


STUDIES = prepared().plan.studies


class Hungry(fakes.ToyRun):
    """Trials 1 and 3, and one of the confirmation, fit into memory with few samples a batch, or on a GPU."""

    def train_epoch(self) -> dict[str, float]:
        trial = self.assignment
        batch = trial.changes.get("training.batch_size", trial.config["training"]["batch_size"])
        is_large = trial.number in (1, 3) if trial.phase == "search" else trial.seed == 2
        if is_large and batch > 16 and not trial.changes.get("resources.gpu"):
            raise MemoryError("DefaultCPUAllocator: can't allocate memory")
        return super().train_epoch()


def hungry(assignment: Assignment, corpus: Any) -> Hungry:
    return Hungry(assignment)


def rows_of(uri: str) -> dict[str, dict[str, Any]]:
    return {row["trial_id"]: row for row in Store.open(uri).trials().to_pylist()}


def failed(uri: str) -> list[str]:
    return [name for name, row in rows_of(uri).items() if row["state"] == "FAIL"]


@pytest.fixture
def failing(tmp_path: Path) -> str:
    """Two trials of a search and one of its confirmation are out of memory."""
    fakes.play(str(tmp_path), STUDIES, workload=hungry, kept=record_of(prepared(), fakes.PROVENANCE))
    assert len(failed(str(tmp_path))) == 3
    return str(tmp_path)


def resumed(uri: str, retry: Retry | None = None, most: float = float("inf")) -> Campaign:
    """What `resume` does, up to so many finished trials."""
    campaign = Campaign(Store.open(uri), STUDIES, fakes.PROVENANCE, retry=retry)
    campaign.keep_retries()
    if most:
        fakes.train(campaign, uri, workload=hungry, most=most)
    return campaign


@pytest.mark.slow
def test_a_change_is_for_failed_trials_alone_and_stands_in_their_rows(failing: str) -> None:
    before, again = rows_of(failing), failed(failing)
    resumed(failing, chosen(failing, options=["training.batch_size=16"]))
    after = rows_of(failing)
    assert failed(failing) == []
    assert [json.loads(after[name]["changes"]) for name in again] == [{"training.batch_size": 16}] * 3
    for name, row in after.items():
        assert row["config"] == before[name]["config"]  # what was planned, so that cells find their trials
        if name not in again:
            assert row == before[name]


@pytest.mark.slow
def test_a_storage_that_was_killed_during_a_retry_goes_on_with_its_changes_unasked(failing: str) -> None:
    again = failed(failing)
    resumed(failing, chosen(failing, options=["training.batch_size=8"]), most=1)  # its driver is killed here
    assert len(failed(failing)) == 2
    campaign = resumed(failing)
    assert campaign.num_new == 2
    assert [json.loads(rows_of(failing)[name]["changes"]) for name in again] == [{"training.batch_size": 8}] * 3


def test_a_trial_that_is_killed_while_it_is_trained_again_goes_on_with_its_changes(failing: str) -> None:
    campaign = resumed(failing, chosen(failing, options=["training.batch_size=8"]), most=0)
    assignment = campaign.next()
    assert assignment is not None
    assert assignment.changes == {"training.batch_size": 8}
    assert campaign.next() is not None
    campaign = resumed(failing, most=0)
    assert [each.changes for each in iter(campaign.next, None)] == [{"training.batch_size": 8}] * 2


@pytest.mark.slow
def test_what_fails_again_is_not_tried_once_more_unless_asked_and_then_with_its_changes(failing: str) -> None:
    resumed(failing, chosen(failing, options=["training.accumulate=2"]))
    assert len(failed(failing)) == 3
    assert resumed(failing).num_new == 0
    resumed(failing, chosen(failing, options=["training.batch_size=16"]))
    both = {"training.accumulate": 2, "training.batch_size": 16}
    assert [json.loads(row["changes"]) for row in rows_of(failing).values() if row["changes"]] == [both] * 3


def test_a_change_to_what_was_planned_is_none(failing: str) -> None:
    resumed(failing, chosen(failing, options=["training.batch_size=31", "resources.cpu=2"]), most=0)
    resumed(failing, chosen(failing, options=["training.batch_size=32", "resources.cpu=1"]), most=0)
    assert resumed(failing, most=0).changes == []


def test_only_failures_of_the_causes_that_are_asked_for_are_trained_again(failing: str) -> None:
    of_time = chosen(failing, causes={FailureType.TIME}, options=["resources.trial_time=2h"])
    assert resumed(failing, of_time).num_new == 0
    assert resumed(failing, chosen(failing, causes={FailureType.OUT_OF_MEMORY, FailureType.CODE})).num_new == 3


def test_time_and_room_are_those_of_the_change(failing: str) -> None:
    changes = ["resources.gpu=0.5", "resources.cpu=2", "resources.trial_time=2h", "resources.on_timeout=keep_best"]
    campaign = resumed(failing, chosen(failing, options=changes), most=0)
    assignment = campaign.next()
    assert assignment is not None
    assert assignment.time_s == pytest.approx(7200.0, abs=60.0)  # and what it has trained before
    assert assignment.keep_best
    assert Demand().changed(Assignment.from_json(assignment.to_json()).changes).bundle() == {"CPU": 2.0, "GPU": 0.5}
    (changes,) = {json.dumps(each) for each in campaign.changes}
    assert json.loads(changes)["resources.trial_time"] == "2h"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["training.epochs=3"], "expected one of resources.cpu"),
        (["training.batchsize=3"], "Did you mean 'training.batch_size'"),
        (["resources.max_concurrent=3"], "expected one of resources.cpu"),
        (["resources.gpu=-1"], "--set resources.gpu: got -1, expected a number of at least 0"),
        (["resources.trial_time=soon"], "--set resources.trial_time: got"),
        (["training.batch_size"], "expected path=value, such as resources.gpu=1"),
        (["training.batch_size=64"], "--set training.batch_size: got 64, expected at most 32"),
        (["training.batch_size=0"], "got 0, expected a whole number of at least 1"),
        (["training.batch_size=four"], "got 'four', expected a whole number"),
        (["text_encoder.gradient_checkpointing=true"], "fine-tunes no text encoder"),
    ],
)
def test_a_change_that_is_none_is_one_clear_line_and_nothing_is_written(
    failing: str, options: Sequence[str], message: str
) -> None:
    before = rows_of(failing)
    with pytest.raises(ExperimentError) as told:
        resumed(failing, chosen(failing, options=options))
    assert message in str(told.value)
    assert "\n" not in str(told.value)
    assert rows_of(failing) == before
    assert resumed(failing, most=0).done


def test_a_searched_value_is_not_changed_behind_the_back_of_its_search(tmp_path: Path) -> None:
    space = {"training.batch_size": {"choices": [32, 64]}}
    found = prepared(space=space, confirm={"seeds": 0})
    fakes.play(str(tmp_path), found.plan.studies, workload=hungry, kept=record_of(found, fakes.PROVENANCE))
    with pytest.raises(ExperimentError, match="a search of this storage has chosen"):
        chosen(str(tmp_path), options=["training.batch_size=16"])(
            [row | {"changes": None} for row in rows_of(str(tmp_path)).values() if row["state"] == "FAIL"]
        )


def test_the_planned_batch_is_no_change_of_a_searched_one(tmp_path: Path) -> None:
    found = prepared(space={"training.batch_size": {"choices": [32, 64]}}, confirm={"seeds": 0})
    fakes.play(str(tmp_path), found.plan.studies, workload=hungry, kept=record_of(found, fakes.PROVENANCE))
    row = next(row for row in rows_of(str(tmp_path)).values() if row["state"] == "FAIL")
    planned = json.loads(row["params"])["training.batch_size"]
    retry = chosen(str(tmp_path), options=[f"training.batch_size={planned}"], only=[row["trial_id"]])
    assert retry([row]) == {row["trial_id"]: {}}


def test_out_of_memory_helps_what_the_trial_has_not_yet() -> None:
    row = {"method": "cpsl", "config": "{}", "params": json.dumps({"training.batch_size": 32})}
    found = [helping(FailureType.OUT_OF_MEMORY, row, {"cpu": 2, "gpu": gpu}) for gpu in (0, 0.5, 1)]
    assert [words and words[-1] for words in found] == ["resources.cpu=4", "resources.gpu=1", None]


def test_an_id_that_is_none_of_a_failed_trial_is_told(failing: str) -> None:
    with pytest.raises(StorageError, match="no failed trial of"):
        resumed(failing, chosen(failing, only=["x"]))


def test_a_worker_trains_with_what_was_changed(tmp_path: Path) -> None:
    from orchestrator.run.workload import train  # imports torch

    corpus = data.load("synthetic", options={"num_train": 16, "num_valid": 8, "num_test": 8}).standardised()
    campaign = Campaign(Store.create(str(tmp_path), fakes.record(STUDIES)), STUDIES, fakes.PROVENANCE)
    planned = campaign.next()
    assert planned is not None
    planned = replace(planned, modalities=tuple(corpus.modalities))
    assert train(planned, corpus).spec.training.batch_size == 32
    assert train(replace(planned, changes={"training.batch_size": 16, "resources.cpu": 2.0}), corpus).spec.training == (
        replace(train(planned, corpus).spec.training, batch_size=16)
    )


@pytest.mark.slow
def test_tables_status_and_the_dry_run_say_what_was_changed(failing: str) -> None:
    store = Store.open(failing)
    rows = [row for row in store.trials().to_pylist() if row["state"] == "FAIL"]
    retry = chosen(failing, options=["training.batch_size=16"])
    assert retry_view.line(rows, retry(rows)) == (
        "failed trials that are trained again: 3 (3 out_of_memory), with training.batch_size=16"
    )
    assert retry_view.line(rows, {}) == "no failed trial is trained again; there are 3 out_of_memory"
    assert "training.batch_size=16" in " ".join(retry_view.table(rows, retry(rows), store.record).split())
    resumed(failing, retry)
    line = "3 trials were trained with training.batch_size=16 after a failure, unlike the others: 3 of full"
    store = Store.open(failing)
    assert failures.changed(store.trials().to_pylist(), store.record) == [line]
    assert line in status.summary(store)["warnings"]
    assert terminal.warnings(store) == [line]
    assert line in " ".join(terminal.tables(store).split())
