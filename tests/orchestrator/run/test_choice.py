"""The best few of a search choose among themselves on seeds of their own, before one is confirmed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest

from msa_models.metrics import Direction
from orchestrator.findings.status import summary
from orchestrator.run.launch import record_of
from orchestrator.run.messages import Assignment
from orchestrator.run.progress import totals
from orchestrator.store import Store
from orchestrator.store.record import Record, StudyRecord
from orchestrator.store.selection import chosen_params, confirm_trials, preferred
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death

Row = dict[str, Any]


def studies(**changes: Any) -> Any:
    """12 search trials, the 3 best on 2 seeds, 2 confirm seeds."""
    return fakes.studies(**{"confirm": {"seeds": 2, "top": 3, "top_seeds": 2}} | changes)


class LuckyRun(fakes.ToyRun):
    """A search has luck, and the more the lower its number: what it finds best does not hold."""

    def train_epoch(self) -> dict[str, float]:
        row = super().train_epoch()
        assignment = self.assignment
        unlucky = assignment.phase != "search" and assignment.config == _LUCKIEST.get("config")
        row["valid/mae"] += 3.0 if unlucky else 0.0
        return row


_LUCKIEST: dict[str, Any] = {}


def lucky(assignment: Assignment, corpus: Any) -> fakes.ToyRun:
    return LuckyRun(assignment)


def by_phase(uri: str, phase: str) -> list[Row]:
    return [row for row in fakes.table(uri) if row["phase"] == phase]


def best_of(search: list[Row]) -> list[Row]:
    return sorted((row for row in search if row["state"] == "COMPLETE"), key=lambda row: row["value"])


@pytest.fixture
def unlucky(tmp_path: Any) -> str:
    """A storage in which the best of the search is worst on any other seed."""
    fakes.play(str(tmp_path / "before"), studies(confirm={"seeds": 0}))
    _LUCKIEST["config"] = json.loads(best_of(by_phase(str(tmp_path / "before"), "search"))[0]["config"])
    uri = str(tmp_path / "whole")
    fakes.play(uri, studies(), workload=lucky, kept=record())
    return uri


def record() -> Any:
    """With its studies, as a driver keeps it."""
    planned = studies()
    recorded = {study.study_id: StudyRecord.planned_as(study).model_dump() for study in planned}
    return Record.of({**fakes.record(planned).plain(), "studies": recorded, "planned": planned[0].least})


@pytest.mark.slow
def test_the_best_few_are_trained_on_seeds_of_their_own_and_the_best_of_these_is_confirmed(unlucky: str) -> None:
    search, select, confirm = (by_phase(unlucky, phase) for phase in ("search", "select", "confirm"))
    best = best_of(search)[:3]
    assert [row["params"] for row in select] == [row["params"] for row in best for _ in range(2)]
    assert {row["state"] for row in select} == {"COMPLETE"}
    assert {row["epochs"] for row in select} == {9}
    assert all(row["test/mae"] is None for row in select)
    means = [fmean(row["value"] for row in select if row["params"] == each["params"]) for each in best]
    winner = best[means.index(min(means))]
    assert winner != best[0]
    assert [row["params"] for row in confirm] == [winner["params"]] * 2
    seeds = [{row["seed"] for row in rows} for rows in (search, select, confirm)]
    assert sum(map(len, seeds)) == len(set.union(*seeds)) == 12 + 2 + 2


@pytest.mark.slow
def test_tables_and_status_know_what_was_chosen(unlucky: str) -> None:
    store = Store.open(unlucky)
    rows = store.trials().to_pylist()
    (study_id,) = store.record.studies
    confirm = by_phase(unlucky, "confirm")
    assert chosen_params(store.record, rows)[study_id] == json.loads(confirm[0]["params"])
    assert len(confirm_trials(store.record, rows)[study_id]) == 2
    found = summary(store)
    assert found["planned"] == {"search": 12, "select": 6, "confirm": 2}
    assert found["counts"]["select"]["COMPLETE"] == 6
    (best,) = found["best"]
    assert next(row for row in rows if row["trial_id"] == best["trial_id"])["params"] == confirm[0]["params"]


@pytest.mark.slow
def test_until_every_seed_is_finished_the_best_of_the_search_stands_for_the_study(unlucky: str) -> None:
    store = Store.open(unlucky)
    rows = [row for row in store.trials().to_pylist() if row["phase"] != "confirm"]
    last = max(row["number"] for row in rows if row["phase"] == "select")
    fewer = [row for row in rows if row["phase"] != "select" or row["number"] != last]
    (chosen,) = chosen_params(store.record, fewer).values()
    assert chosen == json.loads(best_of(by_phase(unlucky, "search"))[0]["params"])


@pytest.mark.slow
def test_progress_counts_what_chooses(tmp_path: Any) -> None:
    campaign = fakes.play(str(tmp_path), studies())
    assert campaign.done
    assert totals(campaign.phases) == (20, 20) == (12 + 6 + 2, campaign.num_planned)
    again = fakes.play(str(tmp_path), studies())
    assert (again.num_new, totals(again.phases)) == (0, (20, 20))


@pytest.mark.slow
def test_a_finished_search_can_choose_later(tmp_path: Any) -> None:
    uri = str(tmp_path)
    fakes.play(uri, fakes.studies())
    before = by_phase(uri, "search")
    assert fakes.play(uri, studies()).num_new in (6, 8)
    assert by_phase(uri, "search") == before
    assert len(by_phase(uri, "select")) == 6


@pytest.mark.slow
def test_a_configuration_that_fails_on_a_seed_comes_after_all_that_do_not(tmp_path: Any) -> None:
    def workload(assignment: Assignment, corpus: Any) -> fakes.ToyRun:
        if assignment.phase == "select" and assignment.number == 1:
            raise RuntimeError("diverged")
        return fakes.ToyRun(assignment)

    uri = str(tmp_path)
    fakes.play(uri, studies(), workload=workload)
    failed = next(row for row in by_phase(uri, "select") if row["state"] == "FAIL")
    assert {row["params"] for row in by_phase(uri, "confirm")}.isdisjoint({failed["params"]})


def test_the_order_is_by_failures_then_means_then_the_search() -> None:
    found = [{"x": each} for each in range(5)]
    values = [[0.5, 0.7], [0.1, None], [0.6, 0.6], [0.4, 0.7]]
    order = preferred(found, values, Direction.MINIMIZE)
    assert [each["x"] for each in order] == [3, 0, 2, 1, 4]
    assert [each["x"] for each in preferred(found, values, Direction.MAXIMIZE)] == [0, 2, 3, 1, 4]


@pytest.mark.slow
def test_killed_while_it_chooses_and_continued_equals_never_interrupted(
    tmp_path: Any, last_write: Callable[..., None]
) -> None:
    search = {"trials": 4, "startup": 4, "pruner": {"kind": "none"}}
    planned = studies(search=search, config={"training.epochs": 3})
    fakes.play(str(tmp_path / "whole"), planned)
    num_chosen = set()
    for nth in range(12, 36, 3):
        uri = str(tmp_path / str(nth))
        last_write(nth)
        with contextlib.suppress(Death):
            fakes.play(uri, planned)
        num_chosen.add(len(by_phase(uri, "select")))
        last_write(0)
        fakes.play(uri, planned)
        assert fakes.table(uri) == fakes.table(str(tmp_path / "whole")), nth
    assert num_chosen & {1, 2, 3, 4, 5}


@pytest.mark.slow
def test_followers_of_a_leader_take_what_it_chose(tmp_path: Any) -> None:
    prepared = fakes.ablation(tuning="shared", seeds=2, confirm={"top": 2})
    campaign = fakes.play_ablation(str(tmp_path), prepared)
    assert campaign.done
    store = Store.open(str(tmp_path))
    rows = store.trials().to_pylist()
    assert sum(row["phase"] == "select" for row in rows) >= 2
    chosen = chosen_params(store.record, rows)
    for state in campaign.studies:
        assert chosen[state.study.study_id] == state.chosen
    assert record_of(prepared).planned["select"]
