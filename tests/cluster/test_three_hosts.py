"""A head, two workers and a laptop, each a host of its own: what is promised of the run that `story` tells."""

from collections import Counter

import pytest

from tests.cluster.story import NUM_PLANNED, STORAGE, Story, corpus_bytes, seconds, told

STALE_S = 60.0  # without a heartbeat, see `orchestrator.store.lease`


@pytest.mark.slow
def test_what_is_promised_is_true_of_the_story(cluster, subtests):
    story = told(cluster)  # in one test, because it takes minutes and workers of pytest-xdist share nothing
    for promise in PROMISES:
        with subtests.test(promise.__name__):
            promise(story)


def a_host_without_the_token_is_refused_and_told_why(story: Story) -> None:
    assert story.intruder.returncode == 1
    assert "InvalidAuthToken: Authentication token is missing or incorrect" in story.intruder.stdout


def the_corpus_comes_to_each_worker_once_however_many_trials_it_trains(story: Story) -> None:
    for name in ("one", "two"):
        assert story.num_begun[name] >= 2
        assert 1 <= story.received_bytes[name] / corpus_bytes() < 1.5


def the_trial_of_a_lost_worker_goes_on_elsewhere_from_its_checkpoint(story: Story) -> None:
    assert story.at_loss
    for trial_id in story.at_loss:
        epochs, writers = zip(*((each.epoch, each.writer) for each in story.checkpoints[trial_id]), strict=True)
        assert list(epochs) == sorted(set(epochs))
        assert writers[0] == story.writers["two"]
        assert story.rows[trial_id]["host"] == "one" or story.writers["one"] in writers
        assert story.rows[trial_id]["state"] != "FAIL"


def no_epoch_before_a_checkpoint_is_trained_again(story: Story) -> None:
    assert len(story.checkpoints) == NUM_PLANNED
    for seen in story.checkpoints.values():
        epochs = [each.epoch for each in seen]
        assert epochs == sorted(set(epochs))


def what_was_finished_when_the_head_was_lost_stays_byte_for_byte(story: Story) -> None:
    assert {"one", "two"} == {row["host"] for row in story.rows.values()}
    assert len(story.results_before) >= 4  # trial and measurements, of two trials
    assert story.results_before.items() <= story.results_after.items()


def the_resumed_run_finishes_every_planned_trial_once(story: Story) -> None:
    assert story.exit_code == 0, story.output
    assert Counter(row["phase"] for row in story.rows.values()) == {"search": NUM_PLANNED - 2, "confirm": 2}
    assert len({(row["phase"], row["number"]) for row in story.rows.values()}) == NUM_PLANNED
    assert sum(path.startswith("trials/") for path in story.results_after) == NUM_PLANNED
    assert {row["state"] for row in story.rows.values()} == {"COMPLETE", "PRUNED"}


def the_resumed_run_waits_until_the_lease_of_the_lost_driver_is_stale(story: Story) -> None:
    last_beat = seconds(story.lost_lease, "beat")
    assert seconds(story.next_lease, "beat") - last_beat > STALE_S, story.output
    said = f"{STORAGE} is in use by the driver on head" in story.output
    began_s = seconds(story.next_lease, "since") - last_beat
    assert said or began_s > STALE_S / 2, story.output  # where drivers take so long to come up, it was stale before


def each_loss_costs_the_trials_that_it_hit_one_attempt(story: Story) -> None:
    assert story.interrupted
    for trial_id, row in story.rows.items():
        assert row["attempts"] == 1 + (trial_id in story.at_loss) + (trial_id in story.interrupted)


PROMISES = (
    a_host_without_the_token_is_refused_and_told_why,
    the_corpus_comes_to_each_worker_once_however_many_trials_it_trains,
    the_trial_of_a_lost_worker_goes_on_elsewhere_from_its_checkpoint,
    no_epoch_before_a_checkpoint_is_trained_again,
    what_was_finished_when_the_head_was_lost_stays_byte_for_byte,
    the_resumed_run_finishes_every_planned_trial_once,
    the_resumed_run_waits_until_the_lease_of_the_lost_driver_is_stale,
    each_loss_costs_the_trials_that_it_hit_one_attempt,
)
