"""Several studies in one run: in turn, each as if it were alone, and no slot idle while there is something to do."""

import contextlib
from collections import Counter

import pytest

from orchestrator.run.campaign import Campaign
from orchestrator.run.progress import best_text
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.store import Store
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("whole"))
    fakes.play(uri, fakes.several())
    return fakes.table(uri)


def handed_out(uri: str, planned, slots: int) -> list[tuple[str, str]]:
    """Study and phase of each trial in turn; a free slot is refused only where every study waits for its own search."""
    names = {study.study_id: study.variant.name for study in planned}
    campaign = Campaign(Store.create(uri, fakes.record(planned)), planned, fakes.PROVENANCE)
    active: dict[str, tuple[TrialRunner, str, str]] = {}
    order: list[tuple[str, str]] = []
    while not campaign.done:
        while len(active) < slots and (assignment := campaign.next()) is not None:
            name, phase = names[assignment.study_id], assignment.phase
            active[assignment.trial_id] = (
                TrialRunner(assignment, fakes.corpus(), Store.open(uri), fakes.toy),
                name,
                phase,
            )
            order.append((name, phase))
        if len(active) < slots:
            for study in planned:
                name, counts = study.variant.name, Counter(order)
                assert counts[name, "search"] == study.search.trials
                searching = any(each[1:] == (name, "search") for each in active.values())
                assert searching or counts[name, "confirm"] == len(study.confirm_seeds)
        for trial_id, (runner, *_) in list(active.items())[:1]:
            if campaign.report(trial_id, runner.stretch()):
                del active[trial_id]
    return order


@pytest.mark.slow
def test_studies_take_turns_and_the_one_that_came_least_far_is_next(tmp_path):
    order = handed_out(str(tmp_path), fakes.several(), slots=1)
    names = [name for name, _ in order]
    assert names[:9] == ["cpsl", "ogm_ge", "fixed"] * 3
    assert Counter(names) == {"cpsl": 8, "ogm_ge": 8, "fixed": 3}
    for length in range(9, len(names)):
        counts = Counter(names[:length])
        assert abs(counts["cpsl"] - counts["ogm_ge"]) <= 1


def test_a_trial_that_is_put_back_is_the_next_one_as_its_study_is_where_it_was(tmp_path):
    planned = fakes.several()
    campaign = Campaign(Store.create(str(tmp_path), fakes.record(planned)), planned, fakes.PROVENANCE)
    first = campaign.next()
    assert first is not None
    campaign.put_back(first.trial_id)
    again, second = campaign.next(), campaign.next()
    assert again == first
    assert second is not None
    assert second.study_id != first.study_id


@pytest.mark.slow
def test_a_study_is_confirmed_while_others_still_search(tmp_path):
    order = handed_out(str(tmp_path), fakes.several(), slots=1)
    first_confirm = order.index(("fixed", "confirm"))
    assert any(phase == "search" for _, phase in order[first_confirm:])


@pytest.mark.slow
@pytest.mark.parametrize("slots", [2, 4, 30])
def test_no_slot_is_idle_while_any_study_has_something_to_do(tmp_path, slots):
    order = handed_out(str(tmp_path), fakes.several(), slots)
    assert len(order) == 19


@pytest.mark.slow
def test_every_study_is_the_same_as_if_it_ran_alone(tmp_path, uninterrupted):
    for study in fakes.several():
        uri = str(tmp_path / study.variant.name)
        fakes.play(uri, (study,))
        assert fakes.table(uri) == [row for row in uninterrupted if row["study_id"] == study.study_id]


@pytest.mark.slow
def test_rows_carry_the_name_and_the_method_of_their_study(uninterrupted):
    assert {(row["variant"], row["method"]) for row in uninterrupted} == {
        ("cpsl", "cpsl"),
        ("ogm_ge", "cpsl"),
        ("fixed", "concat"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 3])
def test_killed_again_and_again_every_study_ends_as_if_never_interrupted(tmp_path, last_write, uninterrupted, slots):
    num_lives, done = 0, False
    while not done:
        num_lives += 1
        last_write(7 + slots)
        assert num_lives < 200
        with contextlib.suppress(Death):
            done = fakes.play(str(tmp_path), fakes.several(), slots=slots).done
    assert num_lives > 5
    rows = fakes.table(str(tmp_path))
    assert len(rows) == len({row["trial_id"] for row in rows}) == len(uninterrupted) == 19
    if slots == 1:
        assert rows == uninterrupted


@pytest.mark.slow
def test_a_cell_that_two_studies_come_to_is_trained_once(tmp_path):
    fixed = {"conflict_penalty": None, "encoder.width": 32}
    planned = fakes.studies(
        config={"training.epochs": 3, "training.learning_rate": 1e-3},
        space={},
        studies={"fixed": {"config": fixed}, "chosen": {"config": {"conflict_penalty": None}, "space": CHOSEN}},
    )
    for slots in (1, 8):
        uri = str(tmp_path / str(slots))
        campaign = fakes.play(uri, planned, slots=slots)
        confirm = [row for row in fakes.table(uri) if row["phase"] == "confirm"]
        assert campaign.done
        assert len(confirm) == 2
        assert campaign.num_planned == campaign.num_new == 1 + 12 + 2
        assert Campaign(Store.open(uri), planned, fakes.PROVENANCE).done


CHOSEN = {"encoder.width": {"choices": [32]}}


@pytest.mark.slow
def test_the_best_value_is_that_of_all_studies_with_its_name(tmp_path, uninterrupted):
    campaign = fakes.play(str(tmp_path), fakes.several())
    best = min(
        (row for row in uninterrupted if (row["phase"], row["state"]) == ("search", "COMPLETE")),
        key=lambda row: row["value"],
    )
    assert best_text(campaign.studies) == f"valid/mae {best['value']:.4f} ({best['variant']})"
