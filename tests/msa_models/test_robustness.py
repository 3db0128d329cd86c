"""What a trained network comes to on a test split of which something is missing, or noisy."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from msa_models import data, metrics
from msa_models import evaluation as module
from msa_models.batch import Batch, batches
from msa_models.config import EncoderConfig, TrainingConfig
from msa_models.data.corpus import Corpus
from msa_models.evaluation import Condition, Robustness
from msa_models.methods import concat
from msa_models.training import Objective, Training

MakeCorpus = Callable[..., Corpus]
ALL = Robustness(missing_rates=(0.5, 1.0), noise=(2.0, 0.5), seed=4)
MODALITIES = ("text", "audio", "vision")
SEEN = "msa_models.evaluation.Network.predict"


@cache
def trained(layout: str = "sequences", task: str = "regression") -> Training:
    sizes = {"num_train": 48, "num_valid": 16, "num_test": 24, "steps": 5, "text_width": 4, "audio_width": 3}
    corpus = data.load("synthetic", task=task, options=sizes | {"layout": layout}).standardised()
    config = concat.Config(
        encoder=EncoderConfig(width=8, heads=2), training=TrainingConfig(epochs=2, learning_rate=0.01)
    )
    metric = f"valid/{metrics.names(corpus.task, corpus.scale, corpus.classes)[0]}"
    objective = Objective(metric=metric, direction=metrics.direction(metric))
    run = Training(concat.build(config), corpus, seed=1, objective=objective)
    for _ in run:
        pass
    return run


def inputs_of(run: Training, condition: Condition, size: int) -> Batch:
    """What the network is given of the whole test split, in batches of this size."""
    split, given = run.corpus.splits["test"], []
    for start, batch in zip(range(0, len(split), size), batches(split, size), strict=False):
        ids = split.ids[start : start + size].tolist()
        given.append(module._Disturbance(run.network, 4, ids, batch)(condition))
    return Batch(
        inputs={name: torch.cat([each.inputs[name] for each in given]) for name in given[0].inputs},
        masks={name: torch.cat([each.masks[name] for each in given]) for name in given[0].masks},
        targets=torch.cat([each.targets for each in given]),
    )


def test_conditions_are_the_clean_one_every_set_of_missing_modalities_and_levels_alone_and_all_at_once() -> None:
    found = [(each.kind, "+".join(each.modalities), each.level) for each in ALL.conditions(MODALITIES)]
    assert found[0] == ("clean", "", 0.0)
    sets = ["text", "audio", "vision", "text+audio", "text+vision", "audio+vision"]
    assert found[1:7] == [("missing_modality", each, 1.0) for each in sets]
    alone_and_all = [*MODALITIES, "text+audio+vision"]
    assert found[7:15] == [("missing_rate", each, level) for each in alone_and_all for level in (0.5, 1.0)]
    assert found[15:] == [("noise", each, level) for each in alone_and_all for level in (0.5, 2.0)]


def test_sets_and_modalities_can_be_fewer_and_one_modality_is_never_missing() -> None:
    each = replace(ALL, missing_modalities="each", missing_rates=(), noise=(), modalities=("audio", "vision"))
    assert [one.modalities for one in each.conditions(MODALITIES)] == [(), ("audio",), ("vision",)]
    both = replace(each, missing_modalities="all_sets")
    assert [one.modalities for one in both.conditions(MODALITIES)][-1] == ("audio", "vision")
    assert [one.modalities for one in both.conditions(("audio", "vision"))] == [(), ("audio",), ("vision",)]
    assert [one.kind for one in replace(ALL, noise=()).conditions(("text",))] == ["clean", *["missing_rate"] * 2]


@pytest.mark.parametrize("task", ["regression", "classification", "multilabel"])
@pytest.mark.parametrize("layout", ["sequences", "utterances"])
def test_every_condition_has_every_metric_and_the_clean_one_is_the_test_result(layout: str, task: str) -> None:
    run = trained(layout, task)
    rows = run.robustness(ALL)
    names = metrics.names(run.corpus.task, run.corpus.scale, run.corpus.classes)
    result = run.result()
    assert [rows[0][name] for name in names] == [result.metrics[f"test/{name}"] for name in names]
    assert all(set(row) == {"kind", "modalities", "level", "split", *names} for row in rows)
    everything_is_gone = next(row for row in rows if row["level"] == 1.0 and row["modalities"] == "+".join(MODALITIES))
    others = [row for row in rows[1:] if row is not everything_is_gone]
    assert all(math.isfinite(row[names[0]]) for row in rows)
    assert any(row[names[0]] != rows[0][names[0]] for row in others)
    assert run.robustness(ALL) == rows


def test_a_modality_that_is_missing_at_a_rate_of_one_is_a_missing_modality() -> None:
    rows = trained().robustness(ALL)
    missing = {row["modalities"]: row["mae"] for row in rows if row["kind"] == "missing_modality"}
    rates = {row["modalities"]: row["mae"] for row in rows if row["kind"] == "missing_rate" and row["level"] == 1.0}
    assert [rates[name] for name in MODALITIES] == [missing[name] for name in MODALITIES]


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@pytest.mark.parametrize("kind", ["missing_rate", "noise"])
def test_what_is_drawn_for_a_sample_does_not_depend_on_its_batch(layout: str, kind: module.Kind) -> None:
    run, condition = trained(layout), Condition(kind=kind, modalities=("text", "vision"), level=0.5)
    one, other = (inputs_of(run, condition, size) for size in (24, 7))
    assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in MODALITIES)
    assert all(torch.equal(one.masks[name], other.masks[name]) for name in one.masks)


def test_what_is_missing_at_a_rate_is_missing_at_every_higher_one() -> None:
    run, before, counts = trained(), None, []
    for level in (0.2, 0.5, 0.8, 1.0):
        condition = Condition(kind="missing_rate", modalities=("text",), level=level)
        left = inputs_of(run, condition, 24).inputs["text"].abs().sum(2) > 0
        assert before is None or not (left & ~before).any()
        before = left
        counts.append(float(left.float().mean()))
    real = float(run.corpus.splits["test"].masks["text"].mean())
    assert np.allclose(counts, [real * (1 - level) for level in (0.2, 0.5, 0.8, 1.0)], atol=0.12)


def test_noise_grows_in_its_own_direction_and_leaves_padding_alone() -> None:
    run = trained()
    clean = torch.from_numpy(run.corpus.splits["test"].inputs["text"])
    added = [
        inputs_of(run, Condition(kind="noise", modalities=("text",), level=level), 24).inputs["text"] - clean
        for level in (1.0, 2.0)
    ]
    real = run.corpus.splits["test"].masks["text"]
    assert torch.allclose(2 * added[0], added[1], atol=1e-5)
    assert float(added[0][~real].abs().sum()) == 0.0
    assert abs(float(added[0][real].std()) - 1.0) < 0.1


def test_predictions_that_are_not_finite_give_a_row_without_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained("utterances")
    monkeypatch.setattr(SEEN, lambda self, batch: torch.full((len(batch),), math.inf))
    rows = run.robustness(replace(ALL, missing_rates=(), noise=()))
    assert all(math.isnan(row["mae"]) for row in rows)
    assert len(rows) == 7


def test_a_model_that_was_kept_comes_to_the_same_and_nothing_else_is_taken_for_it() -> None:
    run = trained()
    later = Training(run.spec, run.corpus, seed=1, objective=run.objective)
    later.load(run.model())
    assert later.robustness(ALL) == run.robustness(ALL)
    with pytest.raises(ValueError, match="a snapshot of another trial: seed differ"):
        Training(run.spec, run.corpus, seed=2, objective=run.objective).load(run.model())
    with pytest.raises(ValueError, match="no whole snapshot"):
        later.load(b"nothing")
