"""A head, two workers and a laptop, each a host of its own: what is promised of the run that `story` tells."""

from collections import Counter

import pytest

from tests.cluster.story import NUM_PLANNED, STORAGE, Story, corpus_bytes, told

# One worker of pytest-xdist for all of them (with --dist=loadgroup): the story is told once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("three hosts")]


@pytest.fixture(scope="module")
def story(cluster) -> Story:
    return told(cluster)


def test_a_host_without_the_token_is_refused_and_told_why(story):
    assert story.intruder.returncode == 1
    assert "InvalidAuthToken: Authentication token is missing or incorrect" in story.intruder.stdout


def test_the_corpus_comes_to_each_worker_once_however_many_trials_it_trains(story):
    for name in ("one", "two"):
        assert story.num_begun[name] >= 2
        assert 1 <= story.received_bytes[name] / corpus_bytes() < 1.5


def test_the_trial_of_a_lost_worker_goes_on_elsewhere_from_its_checkpoint(story):
    assert story.at_loss
    for trial_id in story.at_loss:
        epochs, writers = zip(*((each.epoch, each.writer) for each in story.checkpoints[trial_id]), strict=True)
        assert list(epochs) == sorted(set(epochs))
        assert writers[0] == story.writers["two"]
        assert story.rows[trial_id]["host"] == "one" or story.writers["one"] in writers
        assert story.rows[trial_id]["state"] != "FAIL"


def test_no_epoch_before_a_checkpoint_is_trained_again(story):
    assert len(story.checkpoints) == NUM_PLANNED
    for seen in story.checkpoints.values():
        epochs = [each.epoch for each in seen]
        assert epochs == sorted(set(epochs))


def test_what_was_finished_when_the_head_was_lost_stays_byte_for_byte(story):
    assert {"one", "two"} == {row["host"] for row in story.rows.values()}
    assert len(story.results_before) >= 4  # trial and measurements, of two trials
    assert story.results_before.items() <= story.results_after.items()


def test_the_resumed_run_finishes_every_planned_trial_once(story):
    assert story.exit_code == 0, story.output
    assert Counter(row["phase"] for row in story.rows.values()) == {"search": NUM_PLANNED - 2, "confirm": 2}
    assert len({(row["phase"], row["number"]) for row in story.rows.values()}) == NUM_PLANNED
    assert sum(path.startswith("trials/") for path in story.results_after) == NUM_PLANNED
    assert {row["state"] for row in story.rows.values()} == {"COMPLETE", "PRUNED"}


def test_the_resumed_run_waits_until_the_lease_of_the_lost_driver_is_stale(story):
    assert f"{STORAGE} is in use by the driver on head" in story.output


def test_each_loss_costs_the_trials_that_it_hit_one_attempt(story):
    assert story.interrupted
    for trial_id, row in story.rows.items():
        assert row["attempts"] == 1 + (trial_id in story.at_loss) + (trial_id in story.interrupted)
