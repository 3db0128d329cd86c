"""Whole sweeps through the command line: real training, real Ray."""

import contextlib
import json
import signal
import time

import psutil
import pytest

from orchestrator.store import Store
from tests.end_to_end.conftest import SMALL, Msa, finished_trials, kill, progress, wait_for_trials, workers_of
from tests.end_to_end.without_ray import without_ray
from tests.orchestrator.run.fakes import table
from tests.patience import LIMIT_S, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One sweep that nobody disturbs, one slot."""
    msa = Msa(tmp_path_factory.mktemp("finished"))
    return msa, msa(*msa.sweep_arguments("whole"))


def until(driver, beginning):
    """Read what it says up to a line that begins so."""
    while line := driver.stdout.readline():
        if line.startswith(beginning):
            return
    raise AssertionError(f"no line began with {beginning!r}")


def actors_of(driver):
    """The workers of a driver, also those that do nothing."""
    children = psutil.Process(driver.pid).children(recursive=True)
    return [*workers_of(driver), *(child for child in children if "ray::Worker" in " ".join(cmdline(child)))]


def cmdline(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def everything(uri):
    store = Store.open(uri)
    return table(str(uri)), store.measurements().to_pydict(), store.predictions().to_pydict()


def test_a_sweep_ends_with_tables_and_nothing_of_ray_on_the_screen(finished):
    msa, result = finished
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert progress(lines)[-1].startswith("8/8 trials")
    assert any("valid/mae" in line for line in lines)
    assert lines[-1].startswith("results: whole")
    for word in ("ray", "WARNING", "INFO", "raylet"):
        assert word not in result.stdout
    logs = list((msa.folder / "whole" / "logs").iterdir())
    assert "ray" in logs[0].read_text().lower()


def test_the_rows_have_config_seed_fingerprints_and_versions(finished):
    rows = Store.open(finished[0].folder / "whole").trials().to_pylist()
    assert len({row["seed"] for row in rows}) == len(rows) == 8
    assert [row["seed"] for row in rows if row["phase"] == "confirm"] == [1, 2]
    for row in rows:
        assert json.loads(row["config"])["training"]["epochs"] == 9
        assert len(row["data_fingerprint"]) == len(row["code_fingerprint"]) == 16
        assert {"python", "torch", "ray", "optuna"} <= set(json.loads(row["versions"]))
        assert row["attempts"] == 1
        assert (row["test/mae"] is not None) == (row["phase"] == "confirm")


def test_utilisation_is_recorded(finished):
    run = Store.open(finished[0].folder / "whole").runs()[-1]
    assert run["num_finished"] == 8
    assert 0 < run["utilisation"] <= 1


def test_resume_of_a_finished_storage_starts_nothing_and_says_so(finished):
    msa, _ = finished
    before = sorted(path.name for path in (msa.folder / "whole" / "logs").iterdir())
    again = msa("resume", "whole")
    assert again.returncode == 0
    assert again.stdout.startswith("nothing to do: all 8 trials are finished")
    assert sorted(path.name for path in (msa.folder / "whole" / "logs").iterdir()) == before


def test_two_runs_with_one_slot_are_bitwise_equal_though_one_is_paused_and_asked_for_by_another_driver(finished, msa):
    driver = msa.start(*msa.sweep_arguments("again"))
    until(driver, "waiting for workers to start")
    assert msa("pause", "again").returncode == 0
    until(driver, "paused: ")
    wait_until(lambda: not actors_of(driver), process=driver)  # not even idle ones: their slots are free
    assert not finished_trials(msa.folder / "again")
    for number, most in (("2", "at most 2 trials at a time"), ("1", "at most 1 trial at a time")):
        assert f"trains {most}" in msa("concurrency", "again", number).stdout
        until(driver, f"from now on {most}")
    status = msa("status", "again").stdout
    assert "at most 1 trial at a time" in status
    assert "paused; `msa unpause` goes on" in status
    second = msa("resume", "again")
    assert second.returncode == 2
    assert f"pid {driver.pid}" in second.stderr
    assert "since" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert msa("unpause", "again").returncode == 0
    out, err = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 0, err
    assert "no longer paused\n" in out
    assert everything(msa.folder / "again") == everything(finished[0].folder / "whole")


def test_a_driver_killed_in_search_and_in_confirm_and_resumed_equals_one_never_killed(finished, msa):
    driver = msa.start(*msa.sweep_arguments("killed"))
    for num_finished in (2, 7):
        wait_for_trials(msa.folder / "killed", num_finished, driver)
        time.sleep(0.2)
        kill(driver)
        driver = msa.start("resume", "killed")
    _, err = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 0, err
    assert everything(msa.folder / "killed") == everything(finished[0].folder / "whole")


def test_a_killed_worker_costs_no_trial_and_ctrl_c_exits_soon_with_the_command_to_go_on_and_loses_nothing(
    finished, msa
):
    driver = msa.start(*msa.sweep_arguments("stopped"))
    wait_for_trials(msa.folder / "stopped", 1, driver)
    wait_until(lambda: workers_of(driver), process=driver)
    workers_of(driver)[0].kill()
    wait_for_trials(msa.folder / "stopped", 3, driver)
    driver.send_signal(signal.SIGINT)
    num_asked = len(finished_trials(msa.folder / "stopped"))
    _, err = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 130
    assert len(finished_trials(msa.folder / "stopped")) <= num_asked + 1 < 8  # the one that was being trained at most
    assert "go on with: msa resume stopped" in err
    assert "Traceback" not in err
    assert msa("resume", "stopped").returncode == 0
    assert everything(msa.folder / "stopped") == everything(finished[0].folder / "whole")


def test_failed_trials_make_exit_code_1_and_keep_their_error(msa, capsys):
    explosive = [
        *SMALL,
        "space.training.learning_rate=null",
        "training.learning_rate=1e30",
        "training.gradient_clip=null",
        "resources.stop_after_failures=0",
    ]
    assert without_ray(*msa.sweep_arguments(str(msa.folder / "failing"), explosive)) == 1
    assert "6 trials failed with NonFiniteLoss: " in capsys.readouterr().err
    rows = Store.open(msa.folder / "failing").trials().to_pylist()
    assert {row["state"] for row in rows} == {"FAIL"}
    assert {row["error_type"] for row in rows} == {"NonFiniteLoss"}
    assert all("step" in row["error_message"] or "predictions" in row["error_message"] for row in rows)
    assert len(rows) == 6


COMPARED = (
    "data.options={num_train: 96, num_valid: 32, num_test: 32, layout: utterances}",
    "search.trials=2",
    "training.epochs=3",
    "search.pruner.kind=none",
    "confirm.seeds=1",
    "resources.max_concurrent=1",
)


def compare(storage):
    overrides = [word for each in COMPARED for word in ("--set", each)]
    return ["sweep", "balance", "--studies", "concat,ogm_ge", "--storage", storage, *overrides]


def test_several_studies_end_in_one_table_and_a_killed_driver_resumed_equals_one_never_killed(msa):
    assert without_ray(*compare(str(msa.folder / "compared"))) == 0
    driver = msa.start(*compare("killed"))
    wait_for_trials(msa.folder / "killed", 3, driver)
    kill(driver)
    status = msa("status", "killed").stdout
    assert "2 studies by valid/mae" in " ".join(status.split())  # wrapped, where the path is long
    resumed = msa("resume", "killed")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    last = progress(resumed.stdout.splitlines())[-1]
    assert last.startswith("6/6 trials")
    assert "2 of 2 studies done" in last
    chosen = resumed.stdout.partition("Configurations chosen")[2]
    heads = next(line.split() for line in chosen.splitlines() if line.startswith("study "))
    assert sorted(heads[1:]) == ["concat", "ogm_ge"]
    assert everything(msa.folder / "killed") == everything(msa.folder / "compared")
    rows = Store.open(msa.folder / "killed").trials().to_pylist()
    assert sorted((row["variant"], row["phase"]) for row in rows) == [
        (name, phase) for name in ("concat", "ogm_ge") for phase in ("confirm", "search", "search")
    ]
    assert msa("resume", "killed").stdout.startswith("nothing to do: all 6 trials are finished")

    other = msa(*compare("compared"), "--set", "studies.ogm_ge.ogm_ge.noise=false")
    assert other.returncode == 2
    assert "holds another experiment" in other.stderr
    assert "ogm_ge.noise is true there and false here" in other.stderr
