"""Experiments of published settings: each study is planned, described and trained."""

import dataclasses
import math
from functools import cache
from typing import Any

import pytest
from click.testing import CliRunner

from msa_models.data.corpus import Corpus
from msa_models.testing.cases import small_corpus
from msa_models.training import Objective, Training
from orchestrator.cli.base import msa
from orchestrator.plan.configure import configure, known_method
from orchestrator.plan.corpora import CorpusInfo, EncoderInfo
from orchestrator.plan.plan import plan
from orchestrator.plan.studies import Study
from orchestrator.views import plan_view
from search_spaces.loading import load
from tests import tiny_encoders


@cache
def studies(name: str) -> dict[str, Study]:
    corpus = CorpusInfo.of(small_corpus("regression", "sequences"), lambda name: EncoderInfo(fingerprint=name))
    corpus = dataclasses.replace(corpus, texts="7e47")
    return {study.variant.name: study for study in plan(load(name).experiment, corpus).studies}


MMSA, FINETUNED = (tuple(load(name).experiment.studies) for name in ("mmsa", "mmsa_finetune"))


def trained(study: Study, corpus: Corpus, **others: Any) -> Training:
    """Two epochs of the first configuration."""
    first = {path: each.choices[0] for path, each in study.distributions.items()}  # type: ignore[attr-defined]
    method = known_method(study.method)
    config = configure(method.Config, {**study.config(first), **others})
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=2))
    training = Training(method.build(config), corpus, seed=0, objective=Objective(metric=study.metric))
    list(training)
    return training


@pytest.mark.parametrize("name", MMSA)
def test_published_settings_train(name: str) -> None:
    training = trained(studies("mmsa")[name], small_corpus("regression", "sequences"))
    assert training.epoch == 2
    assert math.isfinite(training.result().metrics["test/mae"])


@pytest.mark.slow
@pytest.mark.parametrize("name", FINETUNED)
def test_published_settings_of_fine_tuning_train(name: str) -> None:
    pretrained = tiny_encoders.pretrained()
    corpus = tiny_encoders.with_tokens(small_corpus("regression", "sequences"), pretrained)
    study = studies("mmsa_finetune")[name]
    fixed = {**study.fixed, "text_encoder": {**study.fixed["text_encoder"], "name": pretrained.name}}
    training = trained(dataclasses.replace(study, fixed=fixed), corpus)
    rates = {group["modality"]: group["lr"] for group in training.step.optimizer.param_groups}
    assert rates["text"] == 5e-5
    assert math.isfinite(training.result().metrics["test/mae"])


def test_each_modality_has_the_rate_that_is_published_for_it() -> None:
    encoder = configure(known_method("concat").Config, studies("mmsa_finetune")["self_mm_mosei"].fixed).encoder
    found = [
        (encoder.of(each).kind, encoder.of(each).width, encoder.of(each).learning_rate) for each in ("audio", "vision")
    ]
    assert found == [("lstm", 16, 0.005), ("lstm", 32, 0.0001)]


def test_they_are_described_with_what_is_their_own() -> None:
    result = CliRunner().invoke(msa, ["describe", "mmsa"], standalone_mode=False)
    assert result.exception is None, result.exception
    lines = [line.split() for line in result.output.splitlines()]
    assert ["encoder.text.kind", "=", '"lstm"'] in lines
    assert ["training.accumulate", "=", "8"] in lines
    assert ["training.optimizer", '"adam"'] in lines
    assert ["training.plateau.patience", "=", "20"] in lines
    asked = load("mmsa_finetune").experiment
    lines = [line.split() for line in plan_view.sweep(asked, list(studies("mmsa_finetune").values())).splitlines()]
    assert ["encoder.audio.learning_rate", "=", "0.005"] in lines
