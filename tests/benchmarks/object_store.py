"""How fast one driver hands out and puts on file where each request takes 30 ms, as on an object store.

A search of TPE over the shipped space of CP-SL whose trials train nothing: all that is left is the driver, without Ray.
Its storage is a filesystem without folders of this machine on which each request (an upload, a read, a listing, a
deletion) waits for 30 ms first; the lease is held, beats, and is asked before each change. The limit is 20 trials/s.
The same in a folder, with as few slots and with 1,000, whose running trials TPE learns from, too.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import pyarrow as pa
from pyarrow import fs
from tabulate import tabulate

from orchestrator.run.campaign import Campaign
from orchestrator.run.messages import Outcome, Report
from orchestrator.store import Files, Lease, Store
from tests.benchmarks.driver_cost import studies
from tests.orchestrator.run import fakes

REQUEST_S, NUM_TRIALS, WARM_UP = 0.03, 500, 300
CASES = ((0.0, 64), (REQUEST_S, 64), (0.0, 1_000))  # what a request takes, and slots
LIMIT = 20.0  # trials a second


class Distant(fs.FileSystemHandler):
    """A folder, each request to which takes a while; it has no folders of its own, as little as a bucket."""

    def __init__(self, folder: str, request_s: float) -> None:
        self._near, self._request_s = fs.SubTreeFileSystem(folder, fs.LocalFileSystem()), request_s

    def _asked(self) -> fs.SubTreeFileSystem:
        time.sleep(self._request_s)
        return self._near

    def get_type_name(self) -> str:
        return "distant"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return self._asked().get_file_info(paths)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        return self._asked().get_file_info(selector)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self._asked().open_input_stream(path, compression=None)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self._asked().open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        self._near.create_dir(path.rpartition("/")[0], recursive=True)
        return self._asked().open_output_stream(path, compression=None)

    def delete_file(self, path: str) -> None:
        self._asked().delete_file(path)

    def delete_dir(self, path: str) -> None:
        self._asked()  # a listing, and a deletion
        self._asked().delete_dir(path)

    def create_dir(self, path: str, recursive: bool) -> None:
        self._near.create_dir(path, recursive=recursive)

    def _refused(self, *args: Any) -> Any:
        raise NotImplementedError

    copy_file = delete_dir_contents = delete_root_dir_contents = move = open_append_stream = _refused  # type: ignore


def files(folder: str, request_s: float) -> Files:
    """Those of a bucket."""
    return Files(filesystem=fs.PyFileSystem(Distant(folder, request_s)), root="bucket", uri="distant://bucket")


def report() -> Report:
    """Of a trial that is over at once."""
    measurements = [{"epoch": float(epoch), "valid/mae": 1.0 / epoch} for epoch in range(1, 4)]
    end = Outcome(best_epoch=3, value=1.0 / 3.0, metrics={"valid/mae": 1.0 / 3.0})
    return Report(measurements=measurements, host="here", pid=1, started=0.0, busy_s=1.0, total_s=1.0, end=end)


def rate(folder: str, request_s: float, slots: int) -> dict[str, float]:
    """Trials a second, and what of each second the driver computed, once TPE has trials to learn from."""
    planned = studies(1, NUM_TRIALS + slots)
    near = Files.at(folder)
    with Lease(files(folder, request_s) if request_s else near) as lease:
        campaign = Campaign(Store.create(lease.files, fakes.record(planned)), planned, fakes.PROVENANCE)
        running, begun, begun_cpu, first = list[str](), 0.0, 0.0, 0
        while campaign.num_new < NUM_TRIALS:
            while len(running) < slots and (assignment := campaign.next()) is not None:
                running.append(assignment.trial_id)
            campaign.report(running.pop(0), report())
            lease.check()
            if not begun and campaign.num_new >= WARM_UP:
                begun, begun_cpu, first = time.perf_counter(), time.process_time(), campaign.num_new
        campaign.settled()
        took, took_cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
        number = campaign.num_new - first
        return {"trials/s": number / took, "CPU, ms a trial": 1_000 * took_cpu / number}


def main() -> None:
    """Print a table."""
    lines, found = [], dict[str, float]()
    for request_s, slots in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = rate(folder, request_s, slots)
        lines.append((f"{1_000 * request_s:.0f} ms", slots, *(f"{value:.1f}" for value in found.values())))
    print(f"limit: {LIMIT:g} trials/s")
    print(tabulate(lines, ("a request takes", "slots", *found), disable_numparse=True))


if __name__ == "__main__":
    main()
