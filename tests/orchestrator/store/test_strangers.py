"""What lies in a storage and is none of its files is named in a line, left out, never counted, and blocks nobody."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import msa
from orchestrator.store import Files, StorageError, Store, proof
from orchestrator.store.experiment_file import upgrade
from orchestrator.store.schema import parquet

TRIAL = "cpsl-mosi-95a385d23d-00004"  # which lies in a part
NUM_TRIALS = 8


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    root = Path(shutil.copytree(Path(__file__).parent / "version_4" / "sweep", tmp_path / "storage"))
    upgrade(Files.at(root))
    return root


def run(*arguments: str) -> Result:
    return CliRunner().invoke(msa, list(arguments), standalone_mode=False)


def copy(name: str) -> Callable[[Path], object]:
    return lambda trials: (trials / name).write_bytes((trials / f"{TRIAL}.parquet").read_bytes())


def in_its_place(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def put(trials: Path) -> None:
        (trials / f"{TRIAL}.parquet").unlink()
        make(trials / f"{TRIAL}.parquet")

    return put


COPIES = (f"{TRIAL} (conflicted copy 2026).parquet", f"{TRIAL} 2.parquet", f"{TRIAL}.sync-conflict-20261201-A.parquet")
COPIES += (f"{TRIAL}.parquet~", f"{TRIAL}.parquet.crdownload", f"{TRIAL}(1).parquet", f"copy-of-{TRIAL}.parquet")
THINGS = {"a folder": Path.mkdir, "a pipe": os.mkfifo, "a dangling link": lambda path: path.symlink_to("nowhere")}
THINGS |= {"a device": lambda path: path.symlink_to("/dev/zero")}
STRANGERS = {name: (copy(name), NUM_TRIALS, name) for name in COPIES}
STRANGERS |= {what: (in_its_place(make), NUM_TRIALS - 1, f"{TRIAL}.parquet") for what, make in THINGS.items()}


@pytest.mark.parametrize("what", STRANGERS)
def test_it_is_named_in_one_line_and_never_counted(storage: Path, what: str) -> None:
    put, number, named = STRANGERS[what]
    put(storage / "trials")
    store = Store.open(storage)
    assert (store.trials().num_rows, len(store.finished_ids())) == (number, number)
    (line,) = store.warnings_
    assert named in line
    assert "left out" in line
    for command in ("status", "table", "failures"):
        result = run(command, str(storage))
        said = " ".join(result.output.split())
        assert (result.return_value, "left out" in said) == (0, True), command
    assert run("verify", str(storage)).return_value == 1


def test_a_folder_in_the_place_of_a_file_is_kept_when_the_file_is_written_again(storage: Path) -> None:
    store = Store.open(storage)
    (row,) = [row for row in store.trials().to_pylist() if row["trial_id"] == TRIAL]
    (storage / "trials" / f"{TRIAL}.parquet").unlink()
    (storage / "trials" / f"{TRIAL}.parquet").mkdir()
    (storage / "trials" / f"{TRIAL}.parquet" / "notes.txt").write_text("mine")
    store.finish(row, [])
    assert TRIAL in store.finished_ids()
    (aside,) = (storage / "trials").glob(f".{TRIAL}.parquet.*.aside")
    assert (aside / "notes.txt").read_text() == "mine"


def test_two_rows_of_one_trial_are_told_and_the_newer_file_counts(storage: Path) -> None:
    store = Store.open(storage)
    before = [row for row in store.trials().to_pylist() if row["trial_id"].endswith("00000")]
    table = store.trials().filter([row["trial_id"] == before[0]["trial_id"] for row in store.trials().to_pylist()])
    path = f"trials/{before[0]['trial_id']}.parquet"
    proof.write(store.files, path, parquet(table))
    assert store.trials().num_rows == NUM_TRIALS
    assert store.warnings_ == []  # as a compaction leaves it that is killed
    other = table.set_column(table.schema.get_field_index("value"), "value", [[0.125]])
    proof.write(store.files, path, parquet(other.cast(table.schema)))
    assert 0.125 in store.trials()["value"].to_pylist()
    (line,) = store.warnings_
    assert f"trials/compact-000001.parquet has other rows of the trials {before[0]['trial_id']}" in line


def test_an_experiment_that_is_a_pipe_is_refused_at_once(storage: Path) -> None:
    (storage / "experiment.json").unlink()
    os.mkfifo(storage / "experiment.json")
    with pytest.raises(StorageError, match="a folder, a pipe or a device, not a file"):
        Store.open(storage)


def test_verify_reads_everything_and_says_what_is_whole(storage: Path) -> None:
    result = run("verify", str(storage), "--json")
    whole = json.loads(result.stdout)
    assert (result.return_value, whole["whole"], whole["version"]) == (0, True, 5)
    assert {kind: each["files"] for kind, each in whole["kinds"].items()} == {
        "record": 1,
        "trials": 6,
        "measurements": 6,
        "predictions": 3,
        "robustness": 3,
        "runs": 1,
        "models": 3,
        "running": 4,
    }
    for path in ("models/56904c3b910be4ad.safetensors", "measurements/compact-000001.parquet"):
        (storage / path).write_bytes(b"x" + (storage / path).read_bytes()[1:])
    result = run("verify", str(storage))
    assert result.return_value == 1
    assert "models/56904c3b910be4ad.safetensors is damaged" in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "measurements" in line]  # one fault, told once
    assert "compact-000001.parquet is damaged" in line
    assert "has no measurements of 3 trials" in line
    assert run("status", str(storage)).return_value == 0


def test_verify_tells_a_damaged_record_from_no_storage(storage: Path, tmp_path: Path) -> None:
    path = storage / "experiment.json"
    path.write_bytes(path.read_bytes().replace(b"valid/mae", b"valid/mad"))
    result = run("verify", str(storage))
    assert result.return_value == 1
    assert "experiment.json is damaged" in result.stderr
    with pytest.raises(StorageError, match="no storage at"):
        CliRunner().invoke(msa, ["verify", str(tmp_path / "none")], catch_exceptions=False, standalone_mode=False)


CONFIRM = "56904c3b910be4ad"
RUN = "runs/20260301T120000.000000Z.json"


def link(path: Path) -> None:
    path.symlink_to("nowhere")


def lose(pattern: str) -> Callable[[Path], object]:
    """Delete what a trial has in a folder."""
    return lambda root: [path.unlink() for path in root.glob(pattern)]


def put(name: str, make: Callable[[Path], object] = lambda path: path.write_bytes(b"x")) -> Callable[[Path], object]:
    """Something where a storage has none of ours, or in the place of it."""

    def do(root: Path) -> None:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        if path.is_file():
            path.unlink()
        make(path)

    return do


FOUND: dict[str, tuple[Callable[[Path], object], str]] = {
    "a confirmed trial without predictions": (
        lose(f"predictions/{CONFIRM}.parquet"),
        f"has no predictions of 1 trials ({CONFIRM})",
    ),
    "a finished trial without measurements": (lose(f"measurements/{TRIAL}.parquet"), "has no measurements of 1 trials"),
    "results without a row": (lose(f"trials/{TRIAL}.parquet"), f"of 1 trials ({TRIAL}) of which trials/ has no row"),
    "a copy of the record": (
        put("experiment (conflicted copy).json"),
        "/storage has files of others, or copies that a synchroniser or an unfinished download left: "
        "'experiment (conflicted copy).json'",
    ),
    "a download of the record": (put("experiment.json.crdownload"), "'experiment.json.crdownload'"),
    "a copy of the grid": (put("grid.sync-conflict-20261201-ABCDEFG.parquet"), "'grid.sync-conflict"),
    "a copy of a folder": (put("trials (1)", Path.mkdir), "'trials (1)'"),
    "a pipe beside the record": (put("steering.json", os.mkfifo), "a pipe or a link to nowhere: 'steering.json'"),
    "a link beside the record": (put("lease.json", link), "'lease.json'"),
    "a copy of a log": (put("logs/20260301T120000.000000Z (1).log"), "logs has files of others"),
    "a pipe among the logs": (put("logs/20260301T120000.000000Z.log", os.mkfifo), "logs has what is a folder, a pipe"),
    "a file in the place of a folder": (put("logs"), "logs is a file, expected a folder"),
    "a pipe as a begun trial": (put("running/cpsl-mosi-95a385d23d-00005/trial.json", os.mkfifo), "'trial.json'"),
    "a copy of a begun trial": (put("running/cpsl-mosi-95a385d23d-00005/trial (2).json"), "'trial (2).json'"),
    "a file among begun trials": (put("running/trial.json"), "running has files of others"),
    "a folder that no trial is called": (put("running/a b", Path.mkdir), "running has files of others"),
    "a copy of the record of a run": (put(f"{RUN}~"), "runs has files of others"),
    "a pipe among the models": (put("models/x.safetensors", os.mkfifo), "models has what is a folder, a pipe"),
    "a copy of a model": (put(f"models/{CONFIRM}.safetensors.part"), "models has files of others"),
    "a file in the place of the models": (
        lambda root: (shutil.rmtree(root / "models"), put("models")(root)),
        "models is a file, expected a folder",
    ),
    "a file in the place of the predictions": (
        lambda root: (shutil.rmtree(root / "predictions"), put("predictions")(root)),
        "cannot list",
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_verify_finds_what_is_lost_and_who_is_a_stranger_wherever_it_lies(storage: Path, what: str) -> None:
    damage, said = FOUND[what]
    damage(storage)
    result = run("verify", str(storage))
    assert result.exception is None
    (line,) = result.stderr.splitlines()
    assert said in line
    assert result.return_value == 1


def test_what_somebody_keeps_beside_the_results_is_no_fault(storage: Path) -> None:
    for name in ("notes.txt", "figure of mae.pdf", "experiment.yaml", ".DS_Store", "report.html"):
        (storage / name).write_text("mine")
    (storage / "figures").mkdir()
    result = run("verify", str(storage), "--json")
    assert (result.return_value, json.loads(result.stdout)["kinds"]["others"]["files"]) == (0, 3)


COMMANDS = (
    "status",
    "table",
    "table --importance",
    "table --robustness",
    "failures",
    "show {trial}",
    "verify",
    "compare {other}",
)
COMMANDS += ("resume --dry-run", "resume --retry-failed --dry-run", "merge --into {new} --dry-run")


@pytest.mark.parametrize("asked", COMMANDS)
def test_a_command_that_leaves_a_damaged_trial_out_says_so(storage: Path, tmp_path: Path, asked: str) -> None:
    other = shutil.copytree(storage, tmp_path / "other")
    (storage / "trials" / f"{TRIAL}.parquet").write_bytes(b"not what was written")
    command, *more = asked.format(trial="56904c3b910be4ad", other=other, new=tmp_path / "new").split()
    result = run(command, str(storage), *more)
    told = " ".join(f"{result.output} {result.exception or ''}".split())
    assert f"trials/{TRIAL}.parquet is damaged" in told
