"""Every method on disk keeps to the contract; a new file in `msa_models/methods` inherits these tests."""

from functools import cache
from typing import Any

import pytest

import msa_models.methods
from msa_models import discovery, testing
from msa_models.data.corpus import Corpus
from msa_models.discovery import Method
from msa_models.seams import GradientModulator
from msa_models.testing import TASKS, over, small_corpus
from msa_models.testing.cases import Contract
from msa_models.testing.method_cases import (
    RULES,
    absent_from,
    assert_continues_from_any_epoch,
    assert_continues_from_any_step,
    assert_trains,
    brought_in,
    configuration,
    present_in,
    training_of,
)
from msa_models.text.encoder import TextEncoder
from tests import tiny_encoders

METHODS = [discovery.method(name) for name in discovery.names(msa_models.methods)]


@cache
def tokens(task: str, layout: str) -> Corpus:
    """A small corpus with token ids in the place of text features, for a tiny BERT that is fine-tuned."""
    return tiny_encoders.with_tokens(small_corpus(task, layout), tiny_encoders.pretrained("bert"))


def finetuning(pooling: Any) -> dict[str, Any]:
    """The change of a configuration."""
    return {"text_encoder": TextEncoder(name="tiny-bert", mode="finetune", pooling=pooling, learning_rate=1e-3)}


class TestMethods(testing.MethodContract):
    subjects = METHODS

    # each of their cases trains with one component after the other, or more than once
    for _each in (
        testing.MethodContract.test_a_method_trains_with_any_one_component_brought_in,
        testing.MethodContract.test_a_method_with_any_balancing_rule_continued_from_any_epoch_equals_one_never_interrupted,
        testing.MethodContract.test_a_method_with_any_balancing_rule_cut_after_any_step_equals_one_never_interrupted,
        testing.MethodContract.test_a_method_trains_without_any_one_of_its_components,
        testing.MethodContract.test_so_does_one_of_encoders_that_differ_of_accumulated_gradients_and_of_a_plateau,
        testing.MethodContract.test_encoding_a_batch_in_parts_that_are_computed_twice_changes_nothing_for_a_method_with_any_balancing_rule,
    ):
        pytest.mark.slow(_each)


class TestFinetuning(Contract):
    """With a text encoder that is fine-tuned."""

    subject = "method"
    subjects = METHODS

    @pytest.mark.slow
    @over(task=TASKS[:2], pooled=(("tokens", "sequences"), ("mean", "utterances")))
    def test_a_method_that_fine_tunes_trains_and_continues_from_any_epoch(
        self, method: Method, task: str, pooled: tuple[str, str]
    ) -> None:
        pooling, layout = pooled
        corpus, config = tokens(task, layout), configuration(method, finetuning(pooling))
        assert_trains(training_of(method, corpus, config))
        assert_continues_from_any_epoch(method, corpus, config)
        assert_continues_from_any_step(method, corpus, config)

    @pytest.mark.slow
    @over(rule=RULES, task=TASKS)
    def test_a_method_with_any_balancing_rule_fine_tunes(self, method: Method, rule: str, task: str) -> None:
        config = configuration(method, brought_in(method, rule) | finetuning("tokens"))
        assert_trains(training_of(method, tokens(task, "utterances"), config))


def test_this_suite_found_methods_with_options_and_modulators() -> None:
    found = {method.name: method for method in METHODS}
    assert {"concat", "cpsl", "pase"} <= set(found)
    assert present_in(found["concat"]) == []
    assert {"conflict_penalty", "statistical_loss", "gated_fusion"} <= set(present_in(found["cpsl"]))
    assert {"ogm_ge", "pmr"} <= set(absent_from(found["cpsl"]))
    assert {"conflict_penalty", "prototypes"} <= set(absent_from(found["concat"]))
    assert {"conflict_penalty", "pmr"} <= set(RULES)
    assert isinstance(found["cpsl"].build(found["cpsl"].Config()).modulator, GradientModulator)
