import json
import os

import pytest

from orchestrator.run.ray_backend import cluster
from orchestrator.run.ray_backend.cluster import ClusterError, Demand, Slots
from orchestrator.run.ray_backend.driver import run
from orchestrator.store import Files, Lease, Store
from tests.orchestrator.run import fakes

SEEN = "SEEN_LOG"


@pytest.fixture
def nodes(monkeypatch):
    """What the nodes of a made-up cluster have, as Ray says it."""
    found: list[dict[str, float]] = []
    monkeypatch.setattr(cluster, "_nodes", lambda: found)
    return found


@pytest.mark.parametrize(
    ("demand", "resources", "slots"),
    [
        ({"cpu": 1}, [{"CPU": 1.5}, {"CPU": 1.5}], 2),  # not three: a trial lies within a node
        ({"cpu": 2}, [{"CPU": 3}, {"CPU": 3}, {"CPU": 1}], 2),
        ({"cpu": 0.1}, [{"CPU": 0.3}], 3),  # though 0.3 / 0.1 is less than three
        ({"cpu": 1, "gpu": 0.3}, [{"CPU": 8, "GPU": 1}, {"CPU": 8}], 3),
        ({"cpu": 1, "gpu": 0.3}, [{"CPU": 16, "GPU": 4}], 12),
        ({"cpu": 1, "gpu": 0.6}, [{"CPU": 8, "GPU": 2}], 2),  # not three: a share lies within a GPU
        ({"cpu": 1, "gpu": 0.5}, [{"CPU": 3, "GPU": 4}], 3),
        ({"cpu": 1, "gpu": 2}, [{"CPU": 8, "GPU": 3}, {"CPU": 8, "GPU": 1}], 1),
        ({"cpu": 1, "gpu": 1.5}, [{"CPU": 8, "GPU": 4}], 2),  # Ray hands out whole ones beyond one
        ({"cpu": 1, "max_concurrent": 3}, [{"CPU": 8}], 3),
        ({"cpu": 1}, [{}, {"CPU": 2}], 2),  # a head that trains nothing
    ],
)
def test_slots_are_counted_node_by_node_and_gpu_by_gpu(nodes, demand, resources, slots):
    nodes += resources
    assert Slots(Demand(**demand))() == slots


def test_a_trial_that_no_node_holds_is_refused_with_what_the_nodes_have(nodes):
    nodes += [{"CPU": 2}, {"CPU": 2, "GPU": 1}]
    with pytest.raises(ClusterError, match=r"asks for 3 CPU and 0 GPU.*have 2 CPU and 0 GPU, 2 CPU and 1 GPU; change"):
        Slots(Demand(cpu=3))


def test_a_cluster_that_grows_may_begin_without_room(nodes):
    assert Slots(Demand(), grows=True)() == 0


def test_a_larger_trial_fits_where_a_single_node_has_the_room(nodes):
    nodes += [{"CPU": 3, "GPU": 1}, {"CPU": 3}]
    slots = Slots(Demand(cpu=1, gpu=0.5))
    assert slots.fits(2)
    assert not slots.fits(4)  # two GPUs


def seeing(assignment, corpus):
    """The workload: writes down what CUDA would see, and in how many threads it is to compute."""
    with open(os.environ[SEEN], "a") as file:
        file.write(json.dumps([os.environ.get("CUDA_VISIBLE_DEVICES"), assignment.threads]) + "\n")
    return fakes.ToyRun(assignment)


@pytest.fixture
def ray_with_a_gpu(monkeypatch):
    """Ray on a machine that is said to have two GPUs, and leaves the variable of trials without one as it is."""
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    import ray

    def start():
        ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)

    yield start
    ray.shutdown()


@pytest.mark.slow
def test_a_trial_sees_the_gpus_and_has_the_threads_that_it_was_given_and_no_others(
    tmp_path, monkeypatch, ray_with_a_gpu
):
    log = tmp_path / "seen"
    monkeypatch.setenv(SEEN, str(log))
    ray_with_a_gpu()
    planned = fakes.studies(config={"training.epochs": 1}, search={"trials": 6, "pruner": {"kind": "none"}})
    for gpu, cpu, visible in ((0.0, 1.0, {""}), (0.3, 1.0, {"0", "1"}), (2.0, 2.0, {"0,1"})):
        storage = tmp_path / str(gpu)
        with Lease(Files.at(storage)) as lease:
            store = Store.create(storage, fakes.record(planned))
            run(store, lease, planned, fakes.corpora, demand=Demand(gpu=gpu, cpu=cpu), workload=f"{__name__}:seeing")
        seen, threads = (set(each) for each in zip(*map(json.loads, log.read_text().splitlines()), strict=True))
        assert seen <= visible, gpu
        assert threads == {cpu}
        log.unlink()
