"""What is asked of a run that goes on: heard within seconds, by that run alone."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import msa
from orchestrator.findings.status import summary
from orchestrator.store import Files, Lease, StorageError, Store
from orchestrator.store.steering import STEERING_PATH, Steered, Steering, steer, steering
from orchestrator.views import terminal
from tests.orchestrator.run import fakes
from tests.patience import wait_until


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Store.create(tmp_path, fakes.record(fakes.studies())).files


def test_where_no_run_goes_on_nothing_can_be_asked(files: Files) -> None:
    for command in (["pause"], ["unpause"], ["concurrency"]):
        arguments = [*command, files.uri, *(["2"] if command == ["concurrency"] else [])]
        with pytest.raises(StorageError, match=r"no run goes on in .*; `msa resume` starts one"):
            CliRunner().invoke(msa, arguments, standalone_mode=False, catch_exceptions=False)
    assert not files.exists(STEERING_PATH)


def test_commands_are_heard_by_the_run_that_goes_on_and_not_by_the_next(files: Files) -> None:
    files.write(STEERING_PATH, b'{"paused": true, "max_concurrent": 3}')  # of a run that was killed
    with Lease(files), Steered(files, every_s=0.01) as run:
        assert steering(files) == run.wanted == Steering()
        for words, wanted in (
            (["pause"], Steering(paused=True)),
            (["concurrency", "4"], Steering(paused=True, max_concurrent=4)),
            (["unpause"], Steering(max_concurrent=4)),
        ):
            command, *more = words
            done = CliRunner().invoke(msa, [command, files.uri, *more], standalone_mode=False, catch_exceptions=False)
            assert done.output.startswith("the run on ")
            assert len(done.output.splitlines()) == 1
            wait_until(lambda wanted=wanted: run.wanted == wanted)
            told = terminal.status(summary(Store.open(files.uri)))
            assert ("paused; `msa unpause` goes on" in told) == wanted.paused
            assert ("at most 4 trials at a time, as `msa concurrency` asked" in told) == (wanted.max_concurrent == 4)
    assert not files.exists(STEERING_PATH)
    assert summary(Store.open(files.uri))["steering"] is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"paused": 1, "max_concurrent": null}'])
def test_a_file_that_tells_nothing_asks_for_nothing(files: Files, text: str) -> None:
    files.write(STEERING_PATH, text.encode())
    assert steering(files) == Steering()
    with Lease(files):
        steer(files, paused=True)
    assert steering(files) == Steering(paused=True)
