"""How busy the slots of a run were."""

from types import SimpleNamespace

import pytest

from orchestrator.run import run_record
from orchestrator.run.messages import Report
from orchestrator.run.run_record import RunRecord
from orchestrator.store import Store
from tests.orchestrator.run import fakes


@pytest.fixture
def store(tmp_path):
    return Store.create(str(tmp_path), fakes.record(fakes.studies()))


def test_a_slot_counts_from_its_first_worker_on_the_gap_before_one_that_replaces_it_included(store, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(run_record, "time", SimpleNamespace(time=lambda: now[0], monotonic=lambda: 0.0))
    record = RunRecord(store, 1, None)
    assert record.utilisation is None

    def hear(pid, started, busy_s, until):
        now[0] = until
        report = Report(measurements=[], host="node07", pid=pid, started=started, busy_s=busy_s)
        record.take(report, num_finished=0, slots=1)

    hear(1, started=100.0, busy_s=10.0, until=110.0)
    assert record.utilisation == 1.0
    hear(2, started=115.0, busy_s=5.0, until=120.0)
    hear(2, started=120.0, busy_s=1.0, until=125.0)
    assert record.wall_s == 25.0
    assert record.utilisation == 16.0 / 25.0
    record.write(num_finished=3)
    (written,) = store.runs()
    assert (written["busy_s"], written["num_finished"], written["slots"]) == (16.0, 3, 1)
