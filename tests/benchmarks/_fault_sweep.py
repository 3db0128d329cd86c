"""The sweep of a few toy trials, by command and without Ray, that faults of `_faults_in_process` strike."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from orchestrator.run import launch
from orchestrator.store import Store, heartbeat
from tests.benchmarks._fault_outcomes import Outcome, in_process, results
from tests.end_to_end.kill_harness import first_difference
from tests.orchestrator.run import fakes

SWEEP = (
    *("sweep", "cpsl", "--trials", "4", "--epochs", "6"),
    *("--set", "data.options={num_train: 16, num_valid: 8, num_test: 8, layout: utterances}"),
    *("--set", "confirm.seeds=2"),
)


def sweep(uri: str, workload: Any = fakes.toy) -> tuple[int, list[str]]:
    with mock.patch.object(launch, "run", fakes.driver(workload)):
        code, _, lines = in_process(*SWEEP, "--storage", uri)
    return code, lines


def go_on(uri: str, outcome: Outcome, expected: Any, before: dict[str, bytes]) -> None:
    """Run it to its end, and look whether anything is lost, rewritten or different."""
    with mock.patch.object(heartbeat, "gone", return_value=True):  # as the process before is
        code, lines = sweep(uri)
    if code:
        outcome.wrong(f"going on: {code} {lines[-2:]}")
        return
    if not before.items() <= files(uri).items():
        outcome.wrong("a finished trial is lost or rewritten")
    if difference := first_difference(expected, results(Path(uri))):
        outcome.wrong(f"different: {difference}")
    outcome.rows = Store.open(uri).trials().num_rows


def files(uri: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(uri, "trials").glob("*.parquet")}


def recorded(uri: str) -> bool:
    return Path(uri, "experiment.json").exists()
