"""Whole sweeps through the command line: real training, real Ray."""

import contextlib
import json
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from orchestrator.store import Store
from tests.end_to_end.conftest import SMALL, Msa, finished_trials, kill, progress, wait_for_trials, workers_of
from tests.end_to_end.without_ray import said_without_ray, without_ray
from tests.orchestrator.run.fakes import table
from tests.patience import LIMIT_S, wait_until

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Paused:
    """A sweep of one slot that was paused and asked for by another driver, and what was said of it meanwhile."""

    folder: Path
    driver: subprocess.Popen[str]
    lines: list[str]
    errors: str
    held: tuple[list[str], list[str]]  # files of trials that were there when it had paused, and at its end
    asked: list[tuple[str, str]]  # what should be answered to what was wanted of it, and what was
    status: str
    second: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The storage of one that nobody disturbs."""
    uri = tmp_path_factory.mktemp("finished") / "whole"
    assert without_ray(*Msa(uri.parent).sweep_arguments(str(uri))) == 0
    return uri


@pytest.fixture(scope="module")
def paused(tmp_path_factory):
    msa = Msa(tmp_path_factory.mktemp("paused"))
    driver, lines = msa.start(*msa.sweep_arguments("again")), []
    said_by_it = driver.stdout
    assert said_by_it

    def said(*arguments):
        return said_without_ray(msa.folder, *arguments)

    def until(beginning):
        """Read what it says up to a line that begins so."""
        while line := said_by_it.readline():
            lines.append(line.rstrip("\n"))
            if line.startswith(beginning):
                return
        raise AssertionError(f"no line began with {beginning!r}")

    until("waiting for workers to start")
    assert said("pause", "again").returncode == 0
    until("paused: ")
    wait_until(lambda: not actors_of(driver), process=driver)  # not even idle ones: their slots are free
    before, asked = finished_trials(msa.folder / "again"), []
    for number, most in (("2", "at most 2 trials at a time"), ("1", "at most 1 trial at a time")):
        asked.append((f"trains {most}", said("concurrency", "again", number).stdout))
        until(f"from now on {most}")
    status, second = said("status", "again").stdout, said("resume", "again")
    held = before, finished_trials(msa.folder / "again")
    assert said("unpause", "again").returncode == 0
    out, errors = driver.communicate(timeout=LIMIT_S)
    lines += out.splitlines()
    return Paused(msa.folder, driver, lines, errors, held, asked, status, second)


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


def test_a_sweep_ends_with_tables_and_nothing_of_ray_on_the_screen(paused):
    assert paused.driver.returncode == 0, paused.errors
    assert paused.errors == ""
    assert progress(paused.lines)[-1].startswith("8/8 trials")
    assert any("valid/mae" in line for line in paused.lines)
    assert paused.lines[-1].startswith("results: again")
    for word in ("ray", "WARNING", "INFO", "raylet"):
        assert word not in "\n".join(paused.lines)
    logs = list((paused.folder / "again" / "logs").iterdir())
    assert "ray" in logs[0].read_text().lower()


def test_the_rows_have_config_seed_fingerprints_and_versions(whole):
    rows = Store.open(whole).trials().to_pylist()
    assert len({row["seed"] for row in rows}) == len(rows) == 8
    assert [row["seed"] for row in rows if row["phase"] == "confirm"] == [1, 2]
    for row in rows:
        assert json.loads(row["config"])["training"]["epochs"] == 9
        assert len(row["data_fingerprint"]) == len(row["code_fingerprint"]) == 16
        assert {"python", "torch", "ray", "optuna"} <= set(json.loads(row["versions"]))
        assert row["attempts"] == 1
        assert (row["test/mae"] is not None) == (row["phase"] == "confirm")


def test_utilisation_is_recorded(paused):
    run = Store.open(paused.folder / "again").runs()[-1]
    assert run["num_finished"] == 8
    assert 0 < run["utilisation"] <= 1


def test_resume_of_a_finished_storage_starts_nothing_and_says_so(paused):
    before = sorted(path.name for path in (paused.folder / "again" / "logs").iterdir())
    again = Msa(paused.folder)("resume", "again")
    assert again.returncode == 0
    assert again.stdout.startswith("nothing to do: all 8 trials are finished")
    assert sorted(path.name for path in (paused.folder / "again" / "logs").iterdir()) == before


def test_who_is_paused_trains_nothing_and_what_is_asked_of_a_run_is_answered(paused):
    before, after = paused.held
    assert before == after  # on a busy machine some are there before it has heard
    assert len(after) < 8
    assert [wanted for wanted, answer in paused.asked if wanted not in answer] == []
    assert "at most 1 trial at a time" in paused.status
    assert "paused; `msa unpause` goes on" in paused.status
    assert "no longer paused" in paused.lines
    assert paused.second.returncode == 2
    assert f"pid {paused.driver.pid}" in paused.second.stderr
    assert "since" in paused.second.stderr
    assert len(paused.second.stderr.splitlines()) == 1


def test_with_one_slot_a_run_is_bitwise_the_same_with_ray_and_without_paused_or_not(paused, whole):
    assert everything(paused.folder / "again") == everything(whole)


def test_a_killed_worker_ctrl_c_and_a_killed_driver_cost_no_trial_and_the_end_is_that_of_one_never_killed(whole, msa):
    storage = msa.folder / "stopped"
    driver = msa.start(*msa.sweep_arguments("stopped"))
    wait_for_trials(storage, 1, driver)
    wait_until(lambda: workers_of(driver), process=driver)
    workers_of(driver)[0].kill()
    wait_for_trials(storage, 3, driver)
    driver.send_signal(signal.SIGINT)
    num_asked = len(finished_trials(storage))
    _, err = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 130
    assert len(finished_trials(storage)) <= num_asked + 1 < 8  # the one that was being trained at most
    assert "go on with: msa resume stopped" in err
    assert "Traceback" not in err

    driver = msa.start("resume", "stopped")
    wait_for_trials(storage, 7, driver)  # the search is over
    kill(driver)
    driver = msa.start("resume", "stopped")
    _, err = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 0, err
    assert everything(storage) == everything(whole)


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


def test_several_studies_end_in_one_table_and_interrupted_and_resumed_equal_one_never_interrupted(msa):
    def said(*arguments, **options):
        return said_without_ray(msa.folder, *arguments, **options)

    assert said(*compare("compared")).returncode == 0
    assert said(*compare("stopped"), most=3).returncode == 130
    assert "2 studies by valid/mae" in " ".join(said("status", "stopped").stdout.split())
    resumed = said("resume", "stopped")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    chosen = resumed.stdout.partition("Configurations chosen")[2]
    assert ["concat", "ogm_ge", "study"] in [sorted(line.split()) for line in chosen.splitlines()]
    assert everything(msa.folder / "stopped") == everything(msa.folder / "compared")
    rows = Store.open(msa.folder / "stopped").trials().to_pylist()
    assert sorted((row["variant"], row["phase"]) for row in rows) == [
        (name, phase) for name in ("concat", "ogm_ge") for phase in ("confirm", "search", "search")
    ]
    assert said("resume", "stopped").stdout.startswith("nothing to do: all 6 trials are finished")

    other = said(*compare("compared"), "--set", "studies.ogm_ge.ogm_ge.noise=false")
    assert other.returncode == 2
    assert "holds another experiment" in other.stderr
    assert "ogm_ge.noise is true there and false here" in other.stderr
