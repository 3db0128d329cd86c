"""A file of every layout on its way through `msa data describe`, the plan of a sweep and a training of two epochs."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msa_models.config import EncoderConfig, TrainingConfig
from msa_models.data.describe import describe
from msa_models.methods import concat
from msa_models.training import Objective, Training
from orchestrator.run.preparation import prepare
from orchestrator.views.corpus_view import corpus as described
from orchestrator.views.plan_view import sweep
from search_spaces.loading import validate
from tests.msa_models.data.conftest import build_mmsa, build_mult, build_sims, build_tuples


def without_valid() -> dict[str, Any]:
    raw = build_tuples()
    del raw["valid"]
    return raw


def humour() -> dict[str, Any]:
    raw = build_mult()
    for split in raw.values():
        split["labels"] = (split["labels"][:, 0] > 0).astype(int)
    return raw


FILES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "mmsa": (build_mmsa, {}),
    "mmsa, classes": (build_mmsa, {"task": "classification"}),
    "sims": (build_sims, {"scale": "mosi"}),
    "mult": (build_mult, {}),
    "humour": (humour, {"task": "classification"}),
    "iemocap": (lambda: build_mult("iemocap"), {"task": "classification"}),
    "mosei, sentiment": (lambda: build_mult("mosei"), {"target": "sentiment"}),
    "mosei, one emotion": (lambda: build_mult("mosei"), {"task": "classification", "target": "happy"}),
    "mosei, all emotions": (lambda: build_mult("mosei"), {"task": "multilabel"}),
    "tuples": (build_tuples, {}),
    "tuples without valid": (without_valid, {"valid": {"share": 0.3}}),
}
METRICS = {"regression": "valid/mae", "classification": "valid/f1_weighted", "multilabel": "valid/wa_mean"}


@pytest.mark.parametrize("name", FILES)
def test_it_is_described_planned_and_trained(name: str, tmp_path: Path) -> None:
    build, asked = FILES[name]
    path = tmp_path / "mine.pkl"
    path.write_bytes(pickle.dumps(build()))
    metric = METRICS[asked.get("task", "regression")]
    experiment = validate(
        {
            "method": "concat",
            "data": {"source": str(path), **asked},
            "objective": {"metric": metric},
            "search": {"trials": 1},
        }
    )
    prepared = prepare(experiment, ablation=False)
    (info,), (corpus,) = prepared.infos, prepared.corpora.values()
    assert info.name.startswith("mine")
    assert metric in sweep(experiment, prepared.plan.studies)
    assert described(describe(corpus)).startswith(info.name)
    config = concat.Config(
        encoder=EncoderConfig(width=4, heads=2), training=TrainingConfig(epochs=2, batch_size=8, learning_rate=0.01)
    )
    measurements = list(Training(concat.build(config), corpus, seed=0, objective=Objective(metric=metric)))
    assert [each["epoch"] for each in measurements] == [1, 2]
    assert math.isfinite(measurements[-1][metric])
