"""Confirm seeds of a configuration are handed out together, and share the passes of one worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from msa_models import data
from msa_models.data.corpus import Corpus
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.plan.studies import Study
from orchestrator.run import trial_runner
from orchestrator.run.campaign import Campaign
from orchestrator.run.messages import Assignment
from orchestrator.store import Store
from search_spaces.loading import validate
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death

SEEDS = 3


def planned(seeds: int = SEEDS, **config: Any) -> tuple[Study, ...]:
    """One configuration that is not searched, on so many seeds."""
    return fakes.studies(config={"training.epochs": 3} | config, space={}, confirm={"seeds": seeds})


def searched(uri: Path, studies: tuple[Study, ...], most: int = 1) -> Campaign:
    """A campaign whose only search trial is over, and then as many more as `most` says."""
    fakes.train(Campaign(Store.create(str(uri), fakes.record(studies)), studies, fakes.PROVENANCE), str(uri), most=most)
    return Campaign(Store.open(str(uri)), studies, fakes.PROVENANCE)


def handed_out(campaign: Campaign) -> list[list[Assignment]]:
    """All that it hands out, as workers get it."""
    found = []
    while (assignment := campaign.next()) is not None:
        found.append([assignment, *campaign.mates(assignment)])
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


def test_those_of_a_search_are_alone(tmp_path: Path) -> None:
    studies = fakes.studies()
    campaign = Campaign(Store.create(str(tmp_path), fakes.record(studies)), studies, fakes.PROVENANCE)
    first = campaign.next()
    assert first is not None
    assert campaign.mates(first) == []


def test_what_is_finished_is_not_handed_out_again_with_the_others(tmp_path: Path) -> None:
    studies = planned(5)
    campaign = searched(tmp_path, studies, most=3)
    (several,) = handed_out(campaign)
    assert [each.number for each in several] == [2, 3, 4]


def test_one_that_is_put_back_is_taken_up_with_those_put_back_beside_it(tmp_path: Path) -> None:
    campaign = searched(tmp_path, planned())
    (several,) = handed_out(campaign)
    for each in several:
        campaign.put_back(each.trial_id)
    (again,) = handed_out(campaign)
    assert {each.trial_id for each in again} == {each.trial_id for each in several}


# real trainings


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    options = {"num_train": 64, "num_valid": 24, "num_test": 16, "text_width": 6, "audio_width": 4, "vision_width": 5}
    return data.load("synthetic", options=options | {"layout": "utterances"}).standardised()


@pytest.fixture(scope="module")
def studies(corpus: Corpus) -> tuple[Study, ...]:
    experiment = {
        "method": "cpsl",
        "data": "synthetic",
        "objective": {"metric": "valid/mae"},
        "config": {"training.epochs": 3, "training.batch_size": 16, "encoder.width": 8, "encoder.heads": 2},
        "confirm": {"seeds": SEEDS},
    }
    return plan(validate(experiment), CorpusInfo.of(corpus)).studies


def trained(uri: Path, studies: tuple[Study, ...], corpus: Corpus) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and measurements of the confirm trials."""
    from orchestrator.run.workload import train

    fakes.play(str(uri), studies, workload=train, on=corpus)
    rows = [row for row in fakes.table(str(uri)) if row["phase"] == "confirm"]
    return rows, Store.open(str(uri)).measurements([row["trial_id"] for row in rows]).to_pylist()


def test_seeds_that_share_a_pass_come_to_what_they_come_to_alone(
    tmp_path: Path, studies: tuple[Study, ...], corpus: Corpus
) -> None:
    from orchestrator.run.workload import train

    rows, measured = trained(tmp_path, studies, corpus)
    assert [row["state"] for row in rows] == ["COMPLETE"] * SEEDS
    assert {row["train/models"] for row in measured} == {SEEDS}
    for row in rows:
        alone = train(Assignment.of_row(row, studies[0].direction), corpus)
        while not alone.done:
            alone.train_epoch()
        assert row["value"] == pytest.approx(alone.result().value, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("stretch_s", [trial_runner.STRETCH_S, 0.0], ids=["whole", "step by step"])
def test_killed_at_any_write_they_go_on_bit_for_bit(
    tmp_path: Path, studies: tuple[Study, ...], corpus: Corpus, monkeypatch: Any, last_write: Any, stretch_s: float
) -> None:
    monkeypatch.setattr(trial_runner, "STRETCH_S", stretch_s)
    rows, _ = trained(tmp_path / "whole", studies, corpus)
    expected = {row["trial_id"]: row["value"] for row in rows}
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
        values = {row["trial_id"]: row["value"] for row in found}
        assert values == expected, nth
        assert {row["train/models"] for row in again} == {SEEDS}
    assert num_kills > 5
