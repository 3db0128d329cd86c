"""Confirmed models with modalities missing or noisy: from the setting to rows, tables and one number per trial."""

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orchestrator
from orchestrator.findings.grid import current, write
from orchestrator.findings.robustness import of_studies, summaries
from orchestrator.plan.corpora import CorpusInfo, EncoderInfo
from orchestrator.plan.plan import plan
from orchestrator.run import trial_runner
from orchestrator.run.campaign import Campaign
from orchestrator.run.launch import record_of
from orchestrator.run.preparation import Prepared, prepare
from orchestrator.run.provenance import Provenance
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.run.workload import train as real
from orchestrator.store import Store
from orchestrator.store.grid_file import read
from orchestrator.views import terminal
from search_spaces.faults import ExperimentError
from search_spaces.loading import validate
from tests.orchestrator.run.fakes import play, train

SIZES = {"num_train": 40, "num_valid": 16, "num_test": 12, "text_width": 4, "audio_width": 3, "vision_width": 3}
ORIGIN = Provenance(git_commit="", code_fingerprint="c0de", versions={"python": "3"})
ASKED = {"missing_rates": [0.5, 1.0], "noise": [1.0]}


def experiment(**changes: Any) -> dict[str, Any]:
    return {
        "method": "concat",
        "data": {"source": "synthetic", "options": SIZES | {"layout": "utterances"}},
        "objective": {"metric": "valid/mae"},
        "config": {"training.epochs": 2, "encoder.width": 8, "encoder.heads": 2},
        "search": {"trials": 1},
        "confirm": {"seeds": 2, "robustness": ASKED},
    } | changes


@cache
def prepared(changes: str = "{}") -> Prepared:
    return prepare(validate(experiment(**json.loads(changes))))


def played(uri: Path, asked: Prepared | None = None) -> Store:
    """A sweep of it, really trained, in this process."""
    asked = asked or prepared()
    (corpus,) = asked.corpora.values()
    play(str(uri), asked.plan.studies, workload=real, kept=record_of(asked, ORIGIN), on=corpus, origin=ORIGIN)
    return Store.open(uri)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return played(tmp_path_factory.mktemp("swept") / "storage")


def copied(store: Store, folder: Path) -> Store:
    shutil.copytree(store.files.path(""), folder / "copy")
    return Store.open(folder / "copy")


def parts(store: Store) -> dict[str, bytes]:
    return {name: store.files.read(f"robustness/{name}") for name in store.files.names("robustness")}


# rows


@pytest.mark.slow
def test_confirm_trials_have_a_row_for_each_condition_and_search_trials_none(swept: Store) -> None:
    frame = orchestrator.open(swept.files.uri).robustness
    trials = orchestrator.open(swept.files.uri).trials.query("phase == 'confirm'")
    assert set(frame["trial_id"]) == set(trials["trial_id"])
    assert list(frame.columns[:5]) == ["trial_id", "kind", "modalities", "level", "split"]
    for _, mine in frame.groupby("trial_id"):
        assert dict(mine["kind"].value_counts()) == {"clean": 1, "missing_modality": 6, "missing_rate": 8, "noise": 4}
    clean = frame[frame["kind"] == "clean"].set_index("trial_id")["mae"]
    assert clean.to_dict() == trials.set_index("trial_id")["test/mae"].to_dict()


@pytest.mark.slow
def test_without_the_setting_nothing_is_written_and_nothing_else_changes(swept: Store, tmp_path: Path) -> None:
    plain = played(tmp_path / "plain", prepared(json.dumps({"confirm": {"seeds": 2}})))
    assert plain.files.names("robustness") == []
    columns = ["trial_id", "study_id", "config", "value", "test/mae"]
    assert plain.trials(columns).to_pylist() == swept.trials(columns).to_pylist()
    assert orchestrator.open(plain.files.uri).robustness.empty


@pytest.mark.slow
def test_a_trial_that_was_interrupted_writes_the_same_bytes(
    swept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_runner, "STRETCH_S", 0.0)
    asked, uri = prepared(), str(tmp_path / "cut")
    (corpus,) = asked.corpora.values()
    store = Store.create(uri, record_of(asked, ORIGIN))
    campaign = Campaign(store, asked.plan.studies, ORIGIN)
    train(campaign, uri, workload=real, on=corpus, most=1)  # the search
    assignment = campaign.next()
    assert assignment is not None
    assert not campaign.report(assignment.trial_id, TrialRunner(assignment, corpus, store, real).stretch())
    again = Campaign(Store.open(uri), asked.plan.studies, ORIGIN)  # after a kill
    assert store.files.names("robustness") == []
    train(again, uri, workload=real, on=corpus)
    assert parts(store) == parts(swept)


def test_a_damaged_part_is_left_out_with_one_line(swept: Store, tmp_path: Path) -> None:
    store = copied(swept, tmp_path)
    first, second = store.files.names("robustness")
    store.files.write(f"robustness/{first}", b"PAR1 and nothing else")
    results = orchestrator.open(store.files.uri)
    assert set(results.robustness["trial_id"]) == {second.removesuffix(".parquet")}
    assert [line.split(" is damaged")[0].rpartition("/")[2] for line in results.warnings] == [first]


def test_compaction_folds_the_rows_and_no_reader_notices(swept: Store, tmp_path: Path) -> None:
    store = copied(swept, tmp_path)
    before = store.robustness()
    store.compact()
    assert store.files.names("robustness") == ["compact-000001.parquet"]
    assert store.robustness().to_pylist() == before.to_pylist()


# numbers and tables


def test_auilc_is_the_area_below_the_metric_from_the_clean_split_on(swept: Store) -> None:
    frame = swept.robustness().to_pandas()
    trial = frame["trial_id"].iloc[0]
    mine = frame[(frame["trial_id"] == trial)].set_index(["kind", "modalities", "level"])["mae"]
    line = [mine["clean", "", 0.0], *(mine["missing_rate", "text+audio+vision", level] for level in (0.5, 1.0))]
    expected = (line[0] + line[1]) / 2 * 0.5 + (line[1] + line[2]) / 2 * 0.5
    found = summaries(swept)[trial]
    assert np.isclose(found["auilc_mae"], expected, rtol=1e-12)
    assert np.isclose(found["missing_mae"], mine["missing_modality"].mean(), rtol=1e-12)


def test_the_table_has_every_condition_with_its_spread_over_seeds_in_80_columns(
    swept: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = terminal.robustness(swept)
    assert max(map(len, text.splitlines())) <= 80
    frame = swept.robustness().to_pandas()
    mine = frame[(frame["kind"] == "missing_modality") & (frame["modalities"] == "text+vision")]["mae"]
    (line,) = [line for line in text.splitlines() if line.startswith("without text+vision ")]
    assert f"{mine.mean():.4f} ± {mine.std():.4f}" in line
    assert "AUILC missing rate, all" in text
    assert "over the missing rates 0, 0.5, 1, or over the noise of sd 0, 1." in " ".join(text.split())
    (head,) = [line for line in text.splitlines() if line.startswith("rate ")]
    assert head.split() == ["rate", "text", "audio", "vision", "all"]


def test_programs_get_every_condition_and_metric_in_one_table(swept: Store) -> None:
    rows = json.loads(terminal.robustness(swept, "json"))["rows"]
    assert len(rows) == 1 + 6 + 8 + 4 + 8  # with an AUILC of each of the eight lines
    assert {"study", "dataset", "kind", "modalities", "level", "test/mae", "test/acc7"} < set(rows[0])
    assert rows[0]["test/mae"]["n"] == 2


def test_a_storage_without_such_rows_says_what_would_give_them(tmp_path: Path) -> None:
    plain = played(tmp_path / "plain", prepared(json.dumps({"confirm": {"seeds": 1}})))
    assert of_studies(plain) == []
    with pytest.raises(ValueError, match=r"set confirm\.robustness=\{\} before a sweep"):
        terminal.robustness(plain)


# what is refused at planning


def faults(**confirm: Any) -> list[str]:
    info = CorpusInfo(
        name="mosi",
        fingerprint="f",
        modalities=("text", "audio"),
        task="regression",
        metrics=("mae",),
        texts="t",
        encoder=lambda name: EncoderInfo(fingerprint="e"),
    )
    text = {"text_encoder.mode": "finetune"}
    asked = validate(
        experiment(data="mosi.pkl", config=text, confirm={"seeds": 1, "robustness": confirm}, method="concat")
    )
    try:
        plan(asked, info)
    except ExperimentError as error:
        return [str(fault) for fault in error.faults]
    return []


def test_noise_on_a_text_that_is_fine_tuned_is_refused_with_what_can_be_done() -> None:
    assert faults() == [
        "confirm.robustness.noise: got [0.5, 1.0, 2.0], but text_encoder.mode is finetune, and token ids are no "
        "features that noise could be added to; do without (noise: []), or disturb the others alone "
        "(confirm.robustness.modalities=[audio])"
    ]
    assert faults(noise=[]) == []
    assert faults(modalities=["audio"]) == []


def test_an_unknown_modality_is_refused_with_what_was_probably_meant() -> None:
    assert faults(noise=[], modalities=["audo"]) == [
        "confirm.robustness.modalities.0: got 'audo', but mosi has text, audio. Did you mean 'audio'?"
    ]


@pytest.mark.parametrize(
    ("robustness", "message"),
    [
        ({"missing_rates": [0.0]}, "greater than 0"),
        ({"missing_rates": [1.5]}, "of at most 1"),
        ({"missing_rates": [0.5, 0.5]}, "expected each only once"),
        ({"noise": [-1]}, "greater than 0"),
        ({"noises": [1]}, "Did you mean 'noise'"),
        ({"missing_modalities": "every"}, "'none', 'each' or 'all_sets'"),
        (True, "a mapping such as"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(robustness: Any, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        validate(experiment(confirm={"robustness": robustness}))


def test_the_setting_is_no_part_of_what_a_study_or_a_trial_is() -> None:
    (with_it,) = prepared().plan.studies
    (without,) = prepared(json.dumps({"confirm": {"seeds": 2}})).plan.studies
    assert with_it.study_id == without.study_id
    assert without.robustness is None
    assert with_it.robustness == {**ASKED, "missing_modalities": "all_sets", "modalities": None, "seed": 0}
    assert replace(with_it, robustness=None) == without


# columns of an ablation


@pytest.fixture(scope="module")
def ablated(tmp_path_factory: pytest.TempPathFactory) -> Store:
    changes = {"confirm": {"seeds": 3, "robustness": ASKED}, "search": {"trials": 1}}
    section = {"modalities": ["text", "text+audio"], "tuning": "none"}
    asked = prepare(validate(experiment(**changes, ablation=section)), ablation=True)
    return played(tmp_path_factory.mktemp("ablated") / "storage", asked)


@pytest.mark.slow
def test_the_grid_tests_the_summaries_as_it_tests_other_metrics(ablated: Store) -> None:
    grid = current(ablated).to_pandas().set_index(["variant", "split", "metric"])
    found = summaries(ablated)
    for name in ("auilc_mae", "missing_mae"):
        values = [found[trial][name] for trial in grid.loc["full", "test", name]["trial_ids"]]
        assert np.isclose(grid.loc["full", "test", name]["mean"], np.mean(values))
        assert np.isnan(grid.loc["full", "valid", name]["mean"])
    other = grid.loc["only text+audio", "test", "auilc_mae"]
    assert np.isclose(other["delta"], other["mean"] - grid.loc["full", "test", "auilc_mae"]["mean"])
    assert 0 < other["p_holm"] <= 1
    assert other["verdict"] is not None


@pytest.mark.slow
def test_a_cell_of_one_modality_has_no_set_of_missing_modalities(ablated: Store) -> None:
    grid = current(ablated).to_pandas().set_index(["variant", "split", "metric"])
    assert np.isnan(grid.loc["only text", "test", "missing_mae"]["mean"])
    assert np.isfinite(grid.loc["only text", "test", "auilc_mae"]["mean"])


@pytest.mark.slow
def test_summaries_are_shown_where_they_are_asked_for(ablated: Store, swept: Store) -> None:
    assert "auilc" not in terminal.ablation(ablated, "latex") + terminal.tables(swept)
    assert r"test/auilc\_mae" in terminal.ablation(ablated, "latex", metrics=["mae", "auilc_mae"])
    assert "test/auilc_mae" in terminal.tables(swept, metrics=["auilc_mae"])
    for text in (
        terminal.ablation(ablated, "latex", metrics=["auilc_mae"]),
        terminal.tables(swept, metrics=["auilc_mae"]),
    ):
        assert "AUILC: area below the metric over the missing rates 0, 0.5, 1." in " ".join(text.split())
    with pytest.raises(ValueError, match=r"no metric 'auilc_mea'.*Did you mean 'auilc_mae'"):
        terminal.ablation(ablated, metrics=["auilc_mea"])


def test_several_cells_stand_side_by_side(ablated: Store) -> None:
    text = terminal.robustness(ablated, "markdown")
    assert text.splitlines()[2].count("|") == 5
    (row,) = [line for line in text.splitlines() if line.startswith("| without text+vision")]
    assert ["±" in cell for cell in row.split("|")[2:5]] == [True, False, False]


def test_a_grid_is_made_anew_once_a_trial_was_evaluated_later(ablated: Store, tmp_path: Path) -> None:
    store = copied(ablated, tmp_path)
    write(store)
    assert read(store.files) is not None
    name = store.files.names("robustness")[0]
    store.files.write(f"robustness/{name}", store.files.read(f"robustness/{name}"))
    assert read(store.files) is None
