"""Confirm seeds of a configuration, and batches of a search, are handed out together and share a pass."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from msa_models import data
from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.data.corpus import Corpus
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.plan.studies import Study
from orchestrator.run import trial_runner
from orchestrator.run.campaign import Campaign
from orchestrator.run.choice import gains_by_sharing
from orchestrator.run.launch import record_of
from orchestrator.run.messages import Assignment, Failure
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.store import Store
from search_spaces.loading import validate
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death

SEEDS = 3


def planned(seeds: int = SEEDS, **config: Any) -> tuple[Study, ...]:
    """One configuration that is not searched, on so many seeds."""
    return fakes.studies(config={"training.epochs": 3} | config, space={}, confirm={"seeds": seeds})


def searched(uri: Path, studies: tuple[Study, ...], **options: Any) -> Campaign:
    """A campaign whose only search trial is over."""
    fakes.train(Campaign(Store.create(str(uri), fakes.record(studies)), studies, fakes.PROVENANCE), str(uri), most=1)
    return Campaign(Store.open(str(uri)), studies, fakes.PROVENANCE, **options)


def handed_out(campaign: Campaign) -> list[list[Assignment]]:
    """All that it hands out, as workers get it."""
    found = []
    while (assignment := campaign.next()) is not None:
        found.append(sorted(campaign.together(assignment), key=lambda each: each.number))
    return found


BLOCKS = [(8, [[0, 1, 2, 3, 4]]), (2, [[0, 1], [2, 3], [4]]), (1, [[0], [1], [2], [3], [4]])]


@pytest.mark.parametrize(("fuse", "numbers"), BLOCKS)
def test_seeds_of_a_configuration_are_one_assignment_in_blocks(
    tmp_path: Path, fuse: int, numbers: list[list[int]]
) -> None:
    studies = planned(5, **{"training.fuse": fuse})
    campaign = searched(tmp_path, studies)
    assert campaign.num_waiting == len(numbers), "slots that could be used"
    found = handed_out(campaign)
    assert [[each.number for each in several] for several in found] == numbers
    assert len(campaign.running) == 5


def of_a_search(uri: Path, **changes: Any) -> Campaign:
    """A campaign of six trials that differ in their learning rate, and in what else is said."""
    config = {"training.epochs": 4} | {path: value for path, value in changes.items() if path == "training.fuse"}
    space: dict[str, Any] = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    space |= {path: value for path, value in changes.items() if "." in path and path not in config}
    search = {"trials": 6} | {name: value for name, value in changes.items() if "." not in name}
    studies = fakes.studies(config=config, space=space, search=search)
    return Campaign(Store.create(str(uri), fakes.record(studies)), studies, fakes.PROVENANCE)


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({}, [[0], [1], [2], [3], [4], [5]]),
        ({"batch": 4}, [[0, 1, 2, 3], [4, 5]]),
        ({"batch": 64}, [[0, 1, 2, 3, 4, 5]]),
        ({"batch": 4, "training.fuse": 3}, [[0, 1, 2], [3], [4, 5]]),
        ({"batch": 4, "training.fuse": 1}, [[0], [1], [2], [3], [4], [5]]),
        ({"batch": 4, "seeds": 2}, [[0], [1], [2], [3], [4], [5]]),
    ],
    ids=["one by one", "batches", "all at once", "few in a pass", "not in passes", "means of seeds"],
)
def test_trials_of_a_search_are_handed_out_in_its_batches(
    tmp_path: Path, changes: dict[str, Any], numbers: list[list[int]]
) -> None:
    campaign = of_a_search(tmp_path, **changes)
    assert [[each.number for each in several] for several in handed_out(campaign)] == numbers


def test_of_a_batch_those_of_one_shape_share_a_pass(tmp_path: Path) -> None:
    campaign = of_a_search(tmp_path, batch=6, **{"encoder.width": {"choices": [8, 16]}})
    found = handed_out(campaign)
    shapes = [[each.config["encoder"]["width"] for each in several] for several in found]
    assert sorted(len(each) for each in shapes) != [1] * 6, "both widths are tried, one of them more than once"
    assert all(len(set(each)) == 1 for each in shapes)
    assert shapes[0][0] != shapes[1][0]
    assert sorted(each.number for several in found for each in several) == list(range(6))


def test_one_that_is_pruned_leaves_the_pass_and_the_others_go_on(tmp_path: Path) -> None:
    pruner = {"kind": "asha", "min_epochs": 1, "reduction": 2}
    campaign = of_a_search(tmp_path, batch=6, pruner=pruner)
    fakes.train(campaign, str(tmp_path))
    rows = [row for row in fakes.table(str(tmp_path)) if row["phase"] == "search"]
    assert {row["state"] for row in rows} == {"COMPLETE", "PRUNED"}
    curves = Counter(row["trial_id"] for row in Store.open(str(tmp_path)).measurements().to_pylist())
    for row in rows:
        epochs = max(map(int, json.loads(row["intermediate_values"])))
        assert curves[row["trial_id"]] == (4 if row["state"] == "COMPLETE" else epochs), "no epoch after its last rung"


def test_what_is_finished_is_not_handed_out_again_with_the_others(tmp_path: Path) -> None:
    studies = planned(5)
    campaign = searched(tmp_path, studies)
    ((first, second, *_),) = handed_out(campaign)
    for each in (first, second):
        runner = TrialRunner(each, fakes.corpus(), Store.open(str(tmp_path)), fakes.toy)
        while not campaign.report(each.trial_id, runner.stretch()):
            pass
    (several,) = handed_out(Campaign(Store.open(str(tmp_path)), studies, fakes.PROVENANCE))
    assert [each.number for each in several] == [2, 3, 4]


def test_one_that_is_put_back_is_taken_up_with_those_put_back_beside_it(tmp_path: Path) -> None:
    campaign = searched(tmp_path, planned())
    (several,) = handed_out(campaign)
    for each in several:
        campaign.put_back(each.trial_id)
    (again,) = handed_out(campaign)
    assert {each.trial_id for each in again} == {each.trial_id for each in several}


def test_after_losing_workers_together_each_has_its_last_start_alone(tmp_path: Path) -> None:
    lost = Failure(error_type="WorkerDied", message="the worker was lost", traceback="")
    campaign, starts = searched(tmp_path, planned(), restarts=2), []
    while found := handed_out(campaign):
        starts.append([[each.number for each in several] for several in found])
        for each in reversed([each for several in found for each in several]):
            campaign.lose(each.trial_id, lost)
    assert starts == [[[0, 1, 2]], [[0, 1, 2]], [[0], [1], [2]]]
    assert campaign.done


@pytest.mark.parametrize(("changes", "sizes"), [({}, [8] * 4), ({"seeds": 3}, [8, 4] * 4)], ids=["eight", "more"])
def test_units_of_a_cell_share_passes(tmp_path: Path, changes: dict[str, Any], sizes: list[int]) -> None:
    prepared = fakes.ablation(**{"tuning": "shared", "configurations": 4, "seeds": 2, **changes})
    studies = prepared.plan.studies
    campaign = Campaign(Store.create(str(tmp_path), record_of(prepared)), studies, fakes.PROVENANCE)
    fakes.train(campaign, str(tmp_path), most=4)
    found = handed_out(Campaign(Store.open(str(tmp_path)), studies, fakes.PROVENANCE))
    assert [len(several) for several in found] == sizes
    cells = {study.study_id: study.cell or study.study_id for study in studies}
    assert all(len({cells[each.study_id] for each in several}) == 1 for several in found)
    trials = [each.trial_id for several in found for each in several]
    assert len(set(trials)) == len(trials)


def test_where_nothing_is_gained_each_trial_has_a_slot_of_its_own(tmp_path: Path) -> None:
    campaign = searched(tmp_path, planned(5))
    campaign.share_passes(lambda study: False)
    assert campaign.num_waiting == 5
    assert [[each.number for each in several] for several in handed_out(campaign)] == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("layout", "changes", "gains"),
    [("utterances", {}, True), ("sequences", {}, False), ("utterances", {"stacks": False}, False)],
    ids=["utterances", "sequences", "a component that cannot"],
)
def test_passes_gain_where_features_are_of_utterances_and_components_can(
    layout: str, changes: dict[str, bool], gains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"num_train": 16, "num_valid": 8, "num_test": 8, "text_width": 6, "audio_width": 4, "vision_width": 5}
    corpus = data.load("synthetic", options=options | {"layout": layout})
    (study,) = real_studies(corpus, CONFIRMS)
    for name, value in changes.items():
        monkeypatch.setattr(ConflictPenalty, name, value)
    assert gains_by_sharing(study, {study.data_fingerprint: corpus}) is gains


# real trainings


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    options = {"num_train": 64, "num_valid": 24, "num_test": 16, "text_width": 6, "audio_width": 4, "vision_width": 5}
    return data.load("synthetic", options=options | {"layout": "utterances"}).standardised()


CONFIRMS: dict[str, Any] = {"confirm": {"seeds": SEEDS}}
SEARCHES: dict[str, Any] = {
    "space": {
        "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "statistical_loss.weight": {"low": 0.01, "high": 1.0, "log": True},
    },
    "search": {
        **{"trials": SEEDS, "batch": SEEDS, "sampler": "random"},
        "pruner": {"kind": "asha", "min_epochs": 1, "reduction": 2},
    },
    "confirm": {"seeds": 1},
}


def real_studies(corpus: Corpus, asked: dict[str, Any]) -> tuple[Study, ...]:
    experiment = {
        "method": "cpsl",
        "data": "synthetic",
        "objective": {"metric": "valid/mae"},
        "config": {"training.epochs": 3, "training.batch_size": 16, "encoder.width": 8, "encoder.heads": 2},
    }
    return plan(validate(experiment | asked), CorpusInfo.of(corpus)).studies


def trained(uri: Path, studies: tuple[Study, ...], corpus: Corpus) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of trials that share passes, and their measurements."""
    from orchestrator.run.workload import train

    fakes.play(str(uri), studies, workload=train, on=corpus)
    phase = "search" if studies[0].distributions else "confirm"
    rows = [row for row in fakes.table(str(uri)) if row["phase"] == phase]
    return rows, Store.open(str(uri)).measurements([row["trial_id"] for row in rows]).to_pylist()


@pytest.mark.parametrize("asked", [CONFIRMS, SEARCHES], ids=["seeds", "a batch"])
def test_those_that_share_a_pass_come_to_what_they_come_to_alone(
    tmp_path: Path, asked: dict[str, Any], corpus: Corpus
) -> None:
    from orchestrator.run.workload import train

    studies = real_studies(corpus, asked)
    rows, measured = trained(tmp_path, studies, corpus)
    assert max(row["train/models"] or 1 for row in measured) == SEEDS
    for row in (row for row in rows if row["state"] == "COMPLETE"):
        alone = train(Assignment.of_row(row, studies[0].direction), corpus)
        while not alone.done:
            alone.train_epoch()
        assert row["value"] == pytest.approx(alone.result().value, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("stretch_s", [trial_runner.STRETCH_S, 0.0], ids=["whole", "step by step"])
@pytest.mark.parametrize("asked", [CONFIRMS, SEARCHES], ids=["seeds", "a batch"])
def test_killed_at_any_write_they_go_on_bit_for_bit(
    tmp_path: Path, asked: dict[str, Any], corpus: Corpus, monkeypatch: Any, last_write: Any, stretch_s: float
) -> None:
    monkeypatch.setattr(trial_runner, "STRETCH_S", stretch_s)
    studies = real_studies(corpus, asked)
    rows, curves = trained(tmp_path / "whole", studies, corpus)
    expected = {row["trial_id"]: (row["state"], row["value"], row["intermediate_values"]) for row in rows}
    nth, num_kills = 0, 0
    while num_kills == nth:
        nth += 1
        uri = tmp_path / str(nth)
        last_write(nth if nth < 12 else 7 * nth)
        try:
            trained(uri, studies, corpus)
        except Death:
            num_kills += 1
        last_write(0)
        found, again = trained(uri, studies, corpus)
        ended = {row["trial_id"]: (row["state"], row["value"], row["intermediate_values"]) for row in found}
        assert ended == expected, nth
        assert again == curves, nth
    assert num_kills > 5
