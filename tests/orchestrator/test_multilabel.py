"""A task of several labels on its way from the plan to the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import orchestrator
from msa_models import data, metrics
from orchestrator.findings import grid
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.run.launch import Prepared, record_of
from orchestrator.run.workload import train
from orchestrator.store import Store
from orchestrator.views import terminal
from search_spaces.loading import validate
from tests.orchestrator.run import fakes

EMOTIONS = ("happy", "sad", "anger")
OPTIONS = {"num_train": 24, "num_valid": 12, "num_test": 8, "layout": "utterances"}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ablation that was trained."""
    corpus = data.load("synthetic", task="multilabel", options=OPTIONS).standardised()
    info = CorpusInfo.of(corpus)
    experiment = validate(
        {
            "method": "cpsl",
            "data": {"source": "synthetic", "task": "multilabel", "options": OPTIONS},
            "objective": {"metric": "valid/wa_mean"},
            "config": {"training.epochs": 2, "encoder.width": 8, "encoder.heads": 2},
            "search": {"trials": 1},
            "ablation": {"leave_one_out": ["conflict_penalty"], "tuning": "none", "seeds": 2},
        }
    )
    planned = plan_ablation(experiment, [info])
    prepared = Prepared(experiment=experiment, corpora={corpus.fingerprint: corpus}, infos=(info,), plan=planned)
    folder = tmp_path_factory.mktemp("storage")
    fakes.play(str(folder), planned.studies, workload=train, kept=record_of(prepared), on=corpus)
    return folder


@pytest.mark.slow
def test_each_sample_has_the_truth_and_the_logit_of_every_label(storage: Path) -> None:
    results = orchestrator.open(storage)
    frame = results.predictions
    assert list(frame.columns) == [
        "trial_id",
        "sample_id",
        "target",
        *(f"{kind}_{name}" for kind in ("target", "score") for name in EMOTIONS),
    ]
    assert frame["target"].isna().to_numpy().all()
    confirmed = [trial for trial in Store.open(storage).trials().to_pylist() if trial["phase"] == "confirm"]
    assert len(confirmed) == 4
    for trial in confirmed:
        own = frame.loc[frame["trial_id"] == trial["trial_id"]]
        logits, targets = (
            np.stack([own[f"{kind}_{name}"] for name in EMOTIONS], axis=1) for kind in ("score", "target")
        )
        scores = metrics.multilabel(logits, targets, EMOTIONS)
        assert {name: trial[f"test/{name}"] for name in scores} == pytest.approx(scores)


def test_the_grid_has_every_metric_and_the_interval_over_utterances_of_mean_accuracy(storage: Path) -> None:
    store = Store.open(storage)
    assert store.metrics == metrics.names("multilabel", "", EMOTIONS)
    rows = [row for row in grid.collect(store).to_pylist() if row["split"] == "test"]
    assert {row["metric"] for row in rows} == set(store.metrics)
    known = {row["metric"] for row in rows if row["boot_low"] is not None}
    assert known == {"accuracy_mean"}
    assert store.warnings_ == []


def test_tables_show_single_labels_where_they_are_asked_for(storage: Path) -> None:
    store = Store.open(storage)
    shown = terminal.ablation(store, "markdown")
    assert "test/f1_mean" in shown
    assert "happy" not in shown
    asked = terminal.ablation(store, "markdown", metrics=["wa_happy"])
    assert "test/wa_happy" in asked
    assert "test/f1_mean" not in asked
    assert "happy" not in terminal.tables(store, "markdown")
    assert "valid/f1_happy" in terminal.tables(store, "markdown", metrics=["f1_happy"])
    with pytest.raises(ValueError, match=r"no metric 'f1_hapy'; .* Did you mean 'f1_happy'"):
        terminal.tables(store, metrics=["f1_hapy"])


def test_a_storage_that_was_begun_before_a_metric_existed_goes_on_without_it(tmp_path: Path) -> None:
    planned = fakes.studies(search={"trials": 1}, confirm={"seeds": 1})
    record = fakes.record(planned)
    older = type(record).of(record.plain() | {"metrics": ["mae", "corr"]})
    fakes.play(str(tmp_path), planned, kept=older)
    trials = Store.open(tmp_path).trials()
    assert [name for name in trials.column_names if "/" in name] == ["valid/mae", "valid/corr", "test/mae", "test/corr"]
    assert np.isfinite(trials["valid/mae"].to_numpy()).all()
