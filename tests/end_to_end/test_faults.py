"""A few rows of `python -m tests.benchmarks faults`, those that need no Ray, with a try each."""

import pytest

from tests.benchmarks import _faults_in_process as module

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        "quota: no more files",
        "NFS: a link is made, its answer lost",
        "NFS: a removal is done, its answer lost",
        "NFS: folders have files that are still open",
        "kills during a race of an ablation",
        "five drivers at once",
    ],
)
def test_a_fault_loses_nothing_and_ends_a_run_in_order(name: str) -> None:
    outcome = module.run(name, 1)
    assert outcome.tries >= 1
    assert dict(outcome.problems) == {}
