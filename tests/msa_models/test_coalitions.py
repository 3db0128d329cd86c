from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from msa_models import coalitions
from msa_models.batch import batches
from msa_models.data.corpus import Corpus
from msa_models.methods import cpsl
from msa_models.network import Network, shapes
from msa_models.representations import Forward

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]


def pass_of(corpus: Corpus, config: cpsl.Config) -> tuple[Network, Forward]:
    network = Network(cpsl.build(config), shapes(corpus, 8), seed=0).train()
    batch = next(batches(corpus.splits["train"], 6))
    return network, network.decide(batch, network.encode(batch))


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("layout", ["sequences", "utterances"])
def test_a_modality_outside_a_coalition_is_its_mean_at_every_step(
    make_corpus: MakeCorpus, make_config: MakeConfig, layout: str, task: str
) -> None:
    corpus = make_corpus(task, layout=layout)
    network, forward = pass_of(corpus, make_config())
    means = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    members = torch.tensor([[True, True, True], [False, False, False], [True, False, True], [False, True, False]])
    found = coalitions.predictions(forward, means, members)
    network.eval()
    for prediction, inside in zip(found, members, strict=True):
        replaced = {
            name: each if inside[m] else replace(each, hidden=means[m].expand_as(each.hidden))
            for m, (name, each) in enumerate(forward.representations.items())
        }
        torch.testing.assert_close(prediction, forward.conclude(replaced))
    without_dropout = network.decide(forward.batch, network.encode(forward.batch))
    assert found.shape == (4, *without_dropout.prediction.shape)


def test_asking_coalitions_draws_nothing_and_leaves_training_mode(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    network, forward = pass_of(make_corpus(layout="utterances"), make_config())
    torch.manual_seed(3)
    coalitions.predictions(forward, torch.zeros(3, 8), torch.eye(3, dtype=torch.bool))
    after = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(2))
    assert network.head.training


def test_the_head_without_dropout_is_the_head_in_evaluation_mode(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    head = pass_of(make_corpus(layout="utterances"), make_config())[0].head
    assert any(isinstance(layer, torch.nn.Dropout) for layer in head)
    fused = torch.randn(5, next(head.parameters()).shape[1], generator=torch.Generator().manual_seed(0))
    assert torch.equal(head.without_dropout(fused), head.eval()(fused))


def test_means_are_exponential_averages_that_begin_with_the_first_batch(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus = make_corpus(layout="utterances")
    network = Network(cpsl.build(make_config()), shapes(corpus, 8), seed=0)
    parts, expected = coalitions.remembered(shapes(corpus, 8)), None
    for batch in batches(corpus.splits["train"], 20):
        forward = network.decide(batch, network.encode(batch))
        mean = torch.stack([each.hidden[:, 0].mean(0) for each in forward.representations.values()]).detach()
        expected = mean if expected is None else 0.95 * expected + 0.05 * mean
        with torch.no_grad():
            torch.testing.assert_close(coalitions.follow(parts, forward), expected)
