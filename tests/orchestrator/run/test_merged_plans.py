"""What a merge plans, and what of two storages it takes, without a trial trained for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.run import merging
from orchestrator.run.launch import record_of
from orchestrator.run.preparation import Prepared
from orchestrator.store import Files, Store
from orchestrator.store.experiment_file import Found
from orchestrator.store.transfer import planned_transfer
from search_spaces.loading import validate
from tests.orchestrator.run import fakes


def planned(uri: Path, trials: int, seeds: list[int]) -> Store:
    """A storage of a sweep of which nothing is trained."""
    experiment = validate(
        {
            "method": "cpsl",
            "data": "synthetic",
            "objective": {"metric": "valid/mae"},
            "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
            "search": {"trials": trials},
            "confirm": {"seeds": seeds},
        }
    )
    info = CorpusInfo.of(fakes.corpus())
    prepared = Prepared(experiment=experiment, corpora=fakes.corpora(), infos=(info,), plan=plan(experiment, info))
    return Store.create(str(uri), record_of(prepared, fakes.PROVENANCE))


@pytest.mark.parametrize("first", [0, 1])
def test_the_record_of_two_has_the_trials_and_the_seeds_of_either(tmp_path: Path, first: int) -> None:
    stores = [planned(tmp_path / "one", 6, [1]), planned(tmp_path / "two", 4, [1, 2])]
    ordered = [stores[first], stores[1 - first]]
    record = merging.merged_record(ordered, Files.at(tmp_path / "into"), Found(record=None, modified=None))
    (study,) = record.studies.values()
    assert (study.planned, list(study.seeds)) == ({"search": 6, "confirm": 2}, [1, 2])


def test_what_has_nothing_more_than_the_other_is_not_planned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [planned(tmp_path / name, 6, [1]) for name in ("one", "two")]

    def refuse(*_: object) -> None:
        raise AssertionError("planned again")

    monkeypatch.setattr(merging, "replanned", refuse)
    found = merging.merged_record(stores, Files.at(tmp_path / "into"), Found(record=None, modified=None))
    assert found == stores[0].record


def test_a_failure_takes_the_place_of_no_other_failure(tmp_path: Path) -> None:
    sweep = fakes.studies(search={"trials": 3, "pruner": {"kind": "none"}}, confirm={"seeds": 0})
    for name in ("one", "two"):
        fakes.play(str(tmp_path / name), sweep, workload=fakes.failing_toy)
    found = planned_transfer(Store.open(tmp_path / "one"), Store.open(tmp_path / "two"))
    assert (found.rows, found.replacing, found.same) == ((), (), 3)
