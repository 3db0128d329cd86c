"""Shares of a cluster, and how the runs on it learn of each other; two real runs are in tests/end_to_end."""

import pytest

from orchestrator.run.ray_backend import sharing
from orchestrator.run.ray_backend.sharing import LOOK_EVERY_S, LOST_AFTER_S, Need, Sharing, shares

CPU = {"CPU": 1.0, "GPU": 0.0}
MANY = 1_000


class NoteBoard(dict[str, bytes]):
    """What a head keeps for all runs."""

    write, delete = dict.__setitem__, dict.__delitem__

    def read(self):
        return dict(self)


@pytest.fixture
def clock(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(sharing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sharing.time, "time", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("capacity", "needs", "expected"),
    [
        ({"CPU": 8}, [(MANY, CPU)], [8]),
        ({"CPU": 8}, [(MANY, CPU), (MANY, CPU)], [4, 4]),
        ({"CPU": 8}, [(MANY, CPU), (MANY, CPU), (MANY, CPU)], [3, 3, 2]),  # who came first
        ({"CPU": 8}, [(MANY, CPU), (1, CPU)], [7, 1]),  # what one has no use for is the other's
        ({"CPU": 8}, [(MANY, CPU), (0, CPU)], [8, 0]),
        ({"CPU": 2}, [(MANY, CPU), (MANY, CPU), (MANY, CPU)], [1, 1, 0]),
        ({"CPU": 9}, [(MANY, CPU), (MANY, {"CPU": 2})], [5, 2]),  # 5/9 and 4/9 of the cluster
        ({"CPU": 8, "GPU": 4}, [(MANY, {"CPU": 1, "GPU": 1}), (MANY, CPU)], [3, 5]),  # 3/4 of the GPUs, 5/8 of the CPUs
        ({"CPU": 1}, [(MANY, {"CPU": 0.1}), (MANY, {"CPU": 0.1})], [5, 5]),  # of tenths that no float holds
        ({"CPU": 4}, [(MANY, {"CPU": 1, "GPU": 1}), (MANY, CPU)], [0, 4]),
        ({}, [(MANY, CPU)], [0]),
        # the example of the paper: 9 CPUs and 18 GB, tasks of <1 CPU, 4 GB> and <3 CPUs, 1 GB>
        ({"CPU": 9, "memory": 18}, [(MANY, {"CPU": 1, "memory": 4}), (MANY, {"CPU": 3, "memory": 1})], [3, 2]),
    ],
)
def test_shares_are_those_of_dominant_resource_fairness(capacity, needs, expected):
    assert shares(capacity, [Need(trials=trials, bundle=bundle) for trials, bundle in needs]) == expected


def test_a_run_alone_has_all_and_two_have_half_each_until_one_leaves(clock):
    board = NoteBoard()
    first = Sharing(CPU, lambda: {"CPU": 8.0}, notes=board)
    first.look(MANY)
    assert first.share(8) == 8
    clock[0] += LOOK_EVERY_S + 1
    second = Sharing(CPU, lambda: {"CPU": 8.0}, notes=board)
    second.look(MANY, waits=True)
    assert first.is_due
    first.look(MANY)
    assert not first.is_due
    assert (first.share(8), second.share(8)) == (4, 4)
    assert (first.num_others, first.others_wait, second.others_wait) == (1, True, False)
    assert first.share(3) == 3  # as it may have no more, whoever shares
    second.leave()
    first.look(MANY)
    assert (first.share(8), first.num_others, first.others_wait) == (8, 0, False)


def test_what_a_run_may_not_have_however_much_it_could_use_is_the_others(clock):
    board, most = NoteBoard(), [1]
    first = Sharing(CPU, lambda: {"CPU": 8.0}, notes=board)
    second = Sharing(CPU, lambda: {"CPU": 8.0}, lambda: most[0], board)
    second.look(MANY)
    first.look(MANY)
    assert first.share(8) == 7
    most[0] = 3  # `msa concurrency`
    second.look(MANY)
    first.look(MANY)
    assert (first.share(8), second.share(3)) == (5, 3)


def test_a_run_that_is_killed_is_missed_once_its_note_no_longer_changes(clock):
    board = NoteBoard()
    first, second = (Sharing(CPU, lambda: {"CPU": 8.0}, notes=board) for _ in range(2))
    second.look(MANY)
    for _ in range(3):
        first.look(MANY)
        second.look(MANY)
        clock[0] += LOST_AFTER_S - 1
    first.look(MANY)
    assert first.num_others == 1
    clock[0] += LOST_AFTER_S + 1
    first.look(MANY)
    assert (first.num_others, len(board)) == (0, 1)
    second.look(MANY)  # it was only stopped for a while
    first.look(MANY)
    assert first.share(8) == 4


def test_notes_that_nobody_can_read_are_no_runs(clock):
    board = NoteBoard({"old": b'{"trials": 3}', "torn": b'{"tri'})
    run = Sharing(CPU, lambda: {"CPU": 8.0}, notes=board)
    run.look(MANY)
    assert run.num_others == 0


def test_a_head_that_does_not_answer_leaves_the_share_as_it_was(clock):
    from ray.exceptions import RpcError

    class Silent(NoteBoard):
        def read(self):
            raise RpcError("unavailable")

    run = Sharing(CPU, lambda: {"CPU": 8.0}, notes=Silent())
    run.look(MANY)
    assert run.share(8) == 8
