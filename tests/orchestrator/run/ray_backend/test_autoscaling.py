import pytest

from orchestrator.run.ray_backend import cluster
from orchestrator.run.ray_backend.cluster import AT_LEAST, Autoscaling, ClusterError, Demand, Slots


@pytest.fixture
def groups(monkeypatch):
    """The placement groups that Ray would hold."""
    import ray.util

    held: list[list[dict[str, float]]] = []
    monkeypatch.setattr(ray.util, "placement_group", lambda bundles: held.append(bundles) or bundles)
    monkeypatch.setattr(ray.util, "remove_placement_group", held.remove)
    return held


@pytest.mark.parametrize(
    ("demand", "num_trials", "slots", "num_groups"),
    [
        ({}, 5, 2, 5),
        ({}, 10_000, 2, AT_LEAST),
        ({}, 10_000, 300, 300),  # as many more as there are
        ({"max_concurrent": 4}, 10_000, 3, 1),
        ({"max_concurrent": 4}, 10_000, 4, 0),
        ({"max_concurrent": 4}, 10_000, 7, 0),  # the slots were more before some were lost
    ],
)
def test_a_run_asks_for_what_it_could_use_and_at_most_for_as_much_again_as_there_is(
    groups, demand, num_trials, slots, num_groups
):
    Autoscaling(Demand(**demand)).ask(num_trials, slots)
    assert len(groups) == num_groups


def test_what_is_asked_for_follows_what_is_left_to_do_and_has_the_room_of_a_trial(groups):
    room = Autoscaling(Demand(cpu=2, gpu=0.5))
    numbers = []
    for num_trials in (3, 5, 1, 0):
        room.ask(num_trials, 8)
        numbers.append(len(groups))
        assert all(group == [{"CPU": 2, "GPU": 0.5}] for group in groups)
    assert numbers == [3, 5, 1, 0]


def test_a_run_without_room_asks_for_one_slot_waits_and_says_so(groups, monkeypatch):
    joined = [{"CPU": 0.0}]
    monkeypatch.setattr(cluster, "_nodes", lambda: joined)
    monkeypatch.setattr(cluster.time, "sleep", lambda seconds: joined.append({"CPU": 1.0}))
    monkeypatch.setattr(cluster, "LOOK_EVERY_S", 0.0)
    said: list[str] = []
    Autoscaling(Demand()).wait(Slots(Demand(), grows=True), said.append)
    assert len(groups) == 1
    assert said == ["no node has room for a trial: waiting up to 15 minutes for one"]


def test_a_run_to_which_no_room_ever_comes_is_refused(groups, monkeypatch):
    monkeypatch.setattr(cluster, "_nodes", lambda: [{"CPU": 0.0}])
    monkeypatch.setattr(cluster, "PATIENCE_S", 0.0)
    with pytest.raises(ClusterError, match="no room for a single trial: it asks for 1 CPU"):
        Autoscaling(Demand()).wait(Slots(Demand(), grows=True), print)
