"""The corpus is in the memory of a machine once, however many workers it has."""

import numpy as np
import pytest

from msa_models.data import Corpus
from orchestrator.run.messages import Assignment
from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.driver import run
from orchestrator.store import Files, Lease, Store
from tests.orchestrator.run import fakes

pytestmark = pytest.mark.slow
NUM_BYTES = 200 * 2**20


class Looking(fakes.ToyRun):
    """Measures how its process holds the corpus: as part of the metrics, which the store keeps."""

    def __init__(self, assignment: Assignment, corpus: Corpus) -> None:
        super().__init__(assignment)
        self.features = corpus.splits["train"].inputs["text"]

    def train_epoch(self) -> dict[str, float]:
        row = super().train_epoch()
        self.features.sum()  # every page is touched
        row |= {"writeable": float(self.features.flags.writeable), "private_bytes": _private_bytes()}
        return row


def look(assignment: Assignment, corpus: Corpus) -> Looking:
    return Looking(assignment, corpus)


def _private_bytes() -> float:
    with open("/proc/self/smaps_rollup") as lines:
        fields = dict(line.split(":", 1) for line in lines if ":" in line and line.startswith("Private"))
    return 1024.0 * sum(int(value.split()[0]) for value in fields.values())


def test_workers_read_the_corpus_in_shared_memory_and_copy_nothing(tmp_path):
    small = fakes.corpus()
    text = np.random.default_rng(0).normal(size=(NUM_BYTES // 4 // 256, 256)).astype(np.float32)
    small.splits["train"].inputs["text"] = text
    planned = fakes.studies(search={"trials": 4, "pruner": {"kind": "none"}}, confirm={"seeds": 0})
    with Lease(Files.at(tmp_path)) as lease:
        store = Store.create(tmp_path, fakes.record(planned))
        run(
            store,
            lease,
            planned,
            lambda: {planned[0].data_fingerprint: small},
            demand=Demand(max_concurrent=2),
            workload="tests.end_to_end.test_shared_corpus:look",
        )
    rows = store.measurements().to_pylist()
    assert len({row["trial_id"] for row in rows}) == 4
    assert not any(row["writeable"] for row in rows)
    without = min(row["private_bytes"] for row in rows)
    assert without < 1.5 * NUM_BYTES, "the interpreter and its packages are smaller than that"
    assert max(row["private_bytes"] for row in rows) < without + 0.1 * NUM_BYTES
