"""`msa show`: all that a storage knows of a trial, whatever has become of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.findings.trial_details import details
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.run.campaign import Campaign
from orchestrator.run.launch import record_of
from orchestrator.run.messages import Assignment
from orchestrator.run.preparation import Prepared
from orchestrator.run.retries import chosen
from orchestrator.store import Store
from orchestrator.views import trial_view
from search_spaces.loading import validate
from tests.orchestrator.run import fakes

EXPERIMENT = {
    "method": "cpsl",
    "data": "synthetic",
    "objective": {"metric": "valid/mae"},
    "config": {"training.epochs": 40, "encoder.width": 32},
    "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    "search": {"trials": 6, "startup": 6, "pruner": {"kind": "none"}},
    "confirm": {"seeds": 2},
}


class Broken(fakes.ToyRun):
    """Trial 1 fails after an epoch; checkpoints look as a training's do."""

    def train_epoch(self) -> dict[str, float]:
        if self.assignment.number == 1 and len(self.measurements) == 1:
            raise TypeError("no such thing")
        return super().train_epoch()

    def snapshot(self) -> bytes:
        progress = json.dumps({"measurements": self.measurements}).encode()
        head = json.dumps({"progress": {"dtype": "U8", "data_offsets": [4, 4 + len(progress)]}}).encode()
        return len(head).to_bytes(8, "little") + head + b"else" + progress


def broken(assignment: Assignment, corpus: Any) -> Broken:
    return Broken(assignment)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Trials 0 and 2 of the search are finished, 1 has failed, 3 was begun and has trained an epoch, the rest waits."""
    experiment, info = validate(EXPERIMENT), CorpusInfo.of(fakes.corpus())
    prepared = Prepared(experiment=experiment, corpora={}, infos=(info,), plan=plan(experiment, info))
    store = Store.create(str(tmp_path / "my runs"), record_of(prepared, fakes.PROVENANCE))
    campaign = Campaign(store, prepared.plan.studies, fakes.PROVENANCE)
    fakes.train(campaign, store.files.uri, workload=broken, most=3)
    begun = campaign.next()
    assert begun is not None
    run = Broken(begun)
    run.train_epoch()
    store.checkpoint_write(begun.trial_id, 1, run.snapshot())
    log = Path(store.files.path("logs/20200101T000000.000000Z.log"))
    log.parent.mkdir()
    log.write_text("".join(f"line {number}\n\n" for number in range(9)))
    return store.files.uri


def shown(uri: str, trial: str, capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as end:
        main(["show", uri, trial, *options])
    said = capsys.readouterr()
    assert end.value.code == code
    return said.out if code == 0 else said.err


def test_a_finished_trial_is_shown_with_configuration_curve_metrics_and_log(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (study_id,) = Store.open(uri).record.studies
    text = shown(uri, f"{study_id}-00000", capsys)
    assert text == shown(uri, "full/0", capsys) == shown(uri, "full/search/0", capsys)
    assert text.startswith(f"{study_id}-00000: COMPLETE, valid/mae ")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 + len(uri)  # the log is named whole, to be opened
    (searched,) = [line for line in lines if line.startswith("searched")]
    assert searched.split()[1] == "training.learning_rate"
    assert [line.split()[-2:] for line in lines if "encoder.width" in line] == [["encoder.width", "32"]]
    assert not [line for line in lines if "encoder.dropout" in line or "adaptive_encoding" in line]  # as by default
    bars = lines[lines.index("valid/mae over 40 epochs") + 1]
    assert (len(bars), bars[0]) == (40, "█")
    assert sum(line.rstrip().endswith("best") for line in lines) == 1
    assert [line for line in lines if "line " in line] == [f"  | line {number}" for number in range(4, 9)]


def test_a_failed_trial_is_shown_with_its_error_and_what_may_help(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(uri, "full/1", capsys)
    assert "FAIL" in text.splitlines()[0]
    assert "TypeError at test_show_command.py:" in text
    assert '  |     raise TypeError("no such thing")' in text
    assert "mend the code" in text
    found = json.loads(shown(uri, "full/1", capsys, "--json"))
    assert (found["state"], found["error"]["cause"], len(found["measurements"])) == ("FAIL", "code", 1)
    chosen_to_be_again = Campaign(
        Store.open(uri), (), fakes.PROVENANCE, retry=chosen(uri, options=["training.batch_size=16"])
    )
    chosen_to_be_again.keep_retries()
    found = details(Store.open(uri), "full/1")
    assert (found["state"], found["again"], found["changes"]) == ("FAIL", "WAITING", {"training.batch_size": 16})
    assert "changed      training.batch_size=16, after a failure" in shown(uri, "full/1", capsys)


def test_a_trial_that_was_begun_is_shown_as_far_as_its_checkpoint(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shown(uri, "full/3", capsys, "--json"))
    assert (found["state"], found["checkpoints"], len(found["measurements"])) == ("INTERRUPTED", [1], 1)
    assert found["seed"] is not None
    assert found["params"].keys() == {"training.learning_rate"}
    assert "valid/mae over 1 epochs" in shown(uri, "full/3", capsys)


def test_a_trial_that_waits_is_shown_as_one(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    (study_id,) = Store.open(uri).record.studies
    text = shown(uri, f"{study_id}-00005", capsys)
    assert text.startswith(f"{study_id}-00005: WAITING\n")
    assert "full" in text


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("cpsl", "with which 4 trials of"),
        ("x", "no trial 'x' in"),
        ("fll/1", "no study 'fll', only full. Did you mean 'full'?"),
        ("full/first", "expected STUDY/NUMBER or STUDY/PHASE/NUMBER"),
        ("full/confirm/0", "full has no such trial in confirm, or not yet"),
        ("full/99", "full has no such trial in search"),
        ("", "no trial ''"),
    ],
)
def test_what_is_no_trial_or_several_is_one_clear_line(
    uri: str, named: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = shown(uri, named, capsys, code=2)
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_the_trials_of_an_earlier_version_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(__file__).parents[1] / "store" / "version_4" / "sweep"
    store = Store.open(folder)
    for trial_id in [*store.trials(["trial_id"])["trial_id"].to_pylist(), *store.files.folders("running")]:
        assert trial_id in trial_view.trial(details(store, trial_id))


@pytest.mark.parametrize("columns", [80, 60])
def test_all_but_a_log_fits_the_screen_and_its_tabs_are_spaces(
    uri: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = shown(uri, "full/0", capsys)
    assert [line for line in text.splitlines() if len(line) > columns and not line.startswith(("  | ", "log "))] == []
    found = details(Store.open(uri), "full/0")
    metrics = {f"{split}/{name}": 0.5 for split in ("valid", "test") for name in ("mae", "corr", "acc2", "f1")}
    losses = {f"train/{name}_of_a_long_name": 1.0 for name in ("objective", "task", "reconstruction")}
    found |= {"metrics": metrics, "measurements": [{"epoch": 1, "valid/mae": 1.0, **losses}]}
    lines = trial_view.trial(found | {"log": {"path": "a.log", "lines": ["a\tb"]}}).splitlines()
    assert lines[-1] == "  | a       b"
    assert max(map(len, lines)) <= columns
    assert len(trial_view.epoch(found["measurements"][0], "valid/mae")) <= columns


def test_bars_fit_the_screen_and_leave_out_what_is_no_number() -> None:
    assert trial_view.sparkline([1.0, None, 2.0], 80) == "▁ █"
    assert trial_view.sparkline([1.0] * 3, 80) == "▁▁▁"
    assert len(trial_view.sparkline([float(number) for number in range(1000)], 80)) <= 80
    assert trial_view.sparkline([], 80) == ""


def test_an_unreadable_checkpoint_is_no_fault_of_the_command(uri: str) -> None:
    store = Store.open(uri)
    trial_id = details(store, "full/3")["trial_id"]
    for data in (b"", b"{", b"{}\n", b"\0" * 8, b"\xff" * 20):
        store.checkpoint_write(trial_id, 2, data)
        assert details(store, trial_id)["measurements"] == []
