"""A worker whose node cannot reach the storage fails no trial: it stops the run."""

import platform

import pytest

from orchestrator.run.output import captured
from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.driver import RunStopped, run
from orchestrator.store import Files, Lease, StorageError, Store
from tests.orchestrator.run import fakes


@pytest.mark.slow
def test_workers_that_cannot_open_the_storage_stop_the_run_in_one_line_and_fail_no_trial(tmp_path):
    planned = fakes.studies(search={"trials": 3, "pruner": {"kind": "none"}}, confirm={"seeds": 0})
    record = fakes.record(planned)
    with Lease(Files.at(tmp_path)) as lease:
        store = Store.create(tmp_path, record)
        whole = store.files.read("experiment.json")
        store.files.delete("experiment.json")  # as on a node without the mount
        with pytest.raises(RunStopped, match=r"no storage at .* \(on ") as caught:
            run(
                store,
                lease,
                planned,
                fakes.corpora,
                demand=Demand(max_concurrent=1),
                workload="tests.orchestrator.run.fakes:toy",
            )
    assert platform.node() in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert store.trials().num_rows == 0
    store.files.write("experiment.json", whole)
    fakes.play(str(tmp_path), planned)
    assert {row["state"] for row in fakes.table(str(tmp_path))} == {"COMPLETE"}


def test_a_log_that_cannot_be_written_is_a_storage_error_of_one_line(tmp_path):
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot write .*logs"), captured(Files.at(tmp_path)):
        pass
