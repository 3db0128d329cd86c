"""A search that ends by its hours or by a good value: which trials it hands out, replayed and killed at every write."""

import pytest

from orchestrator.plan.search import BUDGET, TARGET, TRIALS, ended_by
from orchestrator.run.campaign import Campaign
from orchestrator.run.progress import totals
from orchestrator.run.search_state import SearchState
from orchestrator.store import Store
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death
from tests.orchestrator.run.watch import Watch

HOUR_S = 3_600
SEARCH = {"trials": 100, "startup": 4, "seed": 0, "pruner": {"kind": "asha", "min_epochs": 1, "reduction": 3}}
BUDGET_S = 30


def studies(budget_s=None, target=None, **search):
    """Of up to a hundred trials of 1, 3 or 9 epochs, a second each."""
    ends = {"budget": budget_s and budget_s / HOUR_S, "target": target}
    return fakes.studies(search=SEARCH | ends | search)


def play(uri, planned, slots=1):
    watch = Watch()
    return fakes.play(str(uri), planned, slots, workload=watch.toy, clock=watch)


def rows(uri, phase="search"):
    return [row for row in Store.open(str(uri)).trials().to_pylist() if row["phase"] == phase]


def whole(uri):
    """Every row with the time that it took."""
    return [row | {"duration_s": each["duration_s"]} for row, each in zip(fakes.table(uri), times(uri), strict=True)]


def times(uri):
    return Store.open(uri).trials(["trial_id", "duration_s"]).to_pylist()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("whole"))
    play(uri, studies(BUDGET_S))
    return whole(uri)


@pytest.mark.slow
def test_a_search_whose_hours_are_spent_hands_out_no_more_and_confirms(tmp_path):
    campaign = play(tmp_path, studies(BUDGET_S))
    spent = [row["duration_s"] for row in rows(tmp_path)]
    assert [row["duration_s"] for row in rows(tmp_path)] == [row["epochs"] for row in rows(tmp_path)]
    assert sum(spent[:-1]) < BUDGET_S <= sum(spent)
    assert len(rows(tmp_path, "confirm")) == 2
    assert campaign.done
    assert totals(campaign.phases) == (len(spent) + 2, len(spent) + 2)


def test_with_several_slots_what_runs_by_then_is_finished(tmp_path):
    campaign = play(tmp_path, studies(BUDGET_S), slots=4)
    spent = sorted(row["duration_s"] for row in rows(tmp_path))
    assert BUDGET_S <= sum(spent) < BUDGET_S + 4 * 9
    assert campaign.done


@pytest.mark.slow
def test_a_search_ends_with_the_first_trial_that_is_good_enough(tmp_path):
    play(tmp_path / "first", studies(trials=12))
    values = [row["value"] for row in rows(tmp_path / "first") if row["state"] == "COMPLETE"]
    target = sorted(values)[1]
    play(tmp_path / "target", studies(target=target))
    found = rows(tmp_path / "target")
    assert found[-1]["value"] == next(value for value in values if value <= target)
    assert [row["value"] for row in found] == [row["value"] for row in rows(tmp_path / "first")[: len(found)]]
    assert len(rows(tmp_path / "target", "confirm")) == 2


@pytest.mark.slow
def test_more_hours_reuse_what_is_trained(tmp_path, uninterrupted):
    assert studies()[0].study_id == studies(BUDGET_S, target=0.1)[0].study_id
    uri = str(tmp_path)
    play(uri, studies(BUDGET_S / 2))
    assert len(rows(uri)) < len([row for row in uninterrupted if row["phase"] == "search"])
    play(uri, studies(BUDGET_S))
    assert [row for row in whole(uri) if row["phase"] == "search"] == [
        row for row in uninterrupted if row["phase"] == "search"
    ]
    assert play(uri, studies(BUDGET_S)).num_new == 0


@pytest.mark.slow
@pytest.mark.parametrize("ends", [{"budget_s": BUDGET_S}, {"target": 0.3}], ids=["budget", "target"])
def test_killed_at_any_write_and_continued_it_ends_as_one_never_interrupted(tmp_path, last_write, ends):
    last_write(0)
    play(tmp_path / "whole", studies(**ends))
    expected, num_kills = whole(str(tmp_path / "whole")), 0
    for nth in range(2, 60, 7):
        uri = str(tmp_path / str(nth))
        last_write(nth, after=bool(nth % 2))
        try:
            play(uri, studies(**ends))
        except Death:
            num_kills += 1
        last_write(0)
        play(uri, studies(**ends))
        assert whole(uri) == expected, nth
    assert num_kills > 5


def test_what_was_handed_out_and_forgotten_is_handed_out_again_though_the_hours_are_spent(tmp_path):
    """The folder of a running trial is lost, and others of higher numbers have spent the budget meanwhile."""
    uri = str(tmp_path)
    play(uri, studies(BUDGET_S))
    lost = rows(uri)[1]["trial_id"]
    Store.open(uri).files.delete(f"trials/{lost}.parquet")
    campaign = Campaign(Store.open(uri), studies(BUDGET_S), fakes.PROVENANCE)
    assignment = campaign.next()
    assert assignment is not None
    assert assignment.trial_id == lost


def test_time_that_attempts_took_counts_until_a_retry_is_finished(tmp_path):
    """A retry of a failed trial does not open a search whose hours are spent."""
    planned, watch = studies(BUDGET_S), Watch()

    def failing(assignment, corpus):
        run = watch.toy(assignment, corpus)
        if assignment.number == 1 and assignment.phase == "search":
            watch.now += 20.0
            raise RuntimeError("oh")
        return run

    uri = str(tmp_path)
    fakes.play(uri, planned, workload=failing, clock=watch)
    (failed,) = [row for row in rows(uri) if row["state"] == "FAIL"]
    assert failed["duration_s"] == 20.0
    campaign = Campaign(
        Store.open(uri), planned, fakes.PROVENANCE, retry=lambda failed: {row["trial_id"]: {} for row in failed}
    )
    assert campaign.num_waiting == 1


@pytest.mark.parametrize(
    ("ends", "had", "expected"),
    [
        ({}, {}, ""),
        ({}, {"num_trials": 100}, TRIALS),
        ({"budget_s": 60}, {"spent_s": 59.9}, ""),
        ({"budget_s": 60}, {"spent_s": 60.0}, BUDGET),
        ({"target": 0.5}, {"best": 0.51}, ""),
        ({"target": 0.5}, {"best": 0.5}, TARGET),
        ({"target": 0.5}, {"best": None}, ""),
    ],
)
def test_what_ends_a_search(ends, had, expected):
    (study,) = studies(**ends)
    assert ended_by(study.search, study.direction, **{"num_trials": 5, "spent_s": 0.0, "best": None} | had) == expected


def test_a_metric_that_rises_reaches_its_target_from_below():
    (study,) = fakes.studies(objective={"metric": "valid/corr"}, search={"target": 0.7})
    found = [ended_by(study.search, study.direction, num_trials=1, spent_s=0.0, best=best) for best in (0.6, 0.7, 0.8)]
    assert found == ["", TARGET, TARGET]


def test_of_a_trial_that_is_tried_again_the_newest_time_counts():
    (study,) = studies(budget_s=20)
    search = SearchState(study)
    search.spend(0, 10.0)
    search.replay(0, "{}", "COMPLETE", 1.0, {}, 15.0)
    assert not search.is_handed_out
    search.replay(1, "{}", "FAIL", None, {}, 5.0)
    assert search.is_handed_out
