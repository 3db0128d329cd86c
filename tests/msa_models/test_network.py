import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.batch import Batch, batches
from msa_models.data.corpus import Corpus
from msa_models.methods import cpsl
from msa_models.network import Network, cut, shapes
from msa_models.representations import Forward, Gradients
from msa_models.seams import GradientModulator, Modulation, Progress

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wishing(GradientModulator, name="wishing"):
    """Leaves the gradients alone and wants small predictions."""

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        return Modulation(gradients=gradients.total())

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        return 3 * forward.prediction.square().mean()


def network_of(corpus: Corpus, config: cpsl.Config, seed: int = 0) -> Network:
    return Network(cpsl.build(config), shapes(corpus, config.encoder.width), seed)


def some(corpus: Corpus, size: int = 8) -> Batch:
    return next(batches(corpus.splits["train"], size))


@pytest.mark.parametrize(("task", "shape"), [("regression", (8,)), ("classification", (8, 3))])
def test_it_predicts_a_label_or_a_score_for_every_class(
    make_corpus: MakeCorpus, make_config: MakeConfig, task: str, shape: tuple[int, ...]
) -> None:
    corpus = make_corpus(task)
    assert network_of(corpus, make_config()).eval().predict(some(corpus)).shape == shape


@pytest.mark.parametrize("loss", ["l1", "mse"])
def test_the_task_loss_of_regression_is_the_configured_distance(
    make_corpus: MakeCorpus, make_config: MakeConfig, loss: str
) -> None:
    corpus = make_corpus()
    network, batch = network_of(corpus, make_config(training={"loss": loss})).eval(), some(corpus)
    errors = network.predict(batch).detach().numpy() - batch.targets.numpy()
    expected = np.abs(errors).mean() if loss == "l1" else (errors**2).mean()
    assert network.losses(network.decide(batch, network.encode(batch)))["task"].item() == pytest.approx(expected)


def test_the_task_loss_of_classes_is_the_cross_entropy(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = make_corpus("classification")
    network, batch = network_of(corpus, make_config()).eval(), some(corpus)
    scores = network.predict(batch).detach().numpy().astype(np.float64)
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = -np.log(probabilities[np.arange(8), batch.targets.numpy()]).mean()
    assert network.losses(network.decide(batch, network.encode(batch)))["task"].item() == pytest.approx(expected)


def test_each_loss_term_counts_with_its_weight(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = make_corpus()
    network, batch = network_of(corpus, make_config()).eval(), some(corpus)
    forward = network.decide(batch, network.encode(batch))
    losses = network.losses(forward)
    assert list(losses) == ["task", "unimodal_heads", "reconstruction", "statistical_loss", "feature_diversity"]
    for name, term in network.spec.terms.items():
        assert losses[name].item() == pytest.approx(term.weight * term.loss(network.parts[name], forward).item())


def test_losses_and_fusion_read_the_refined_representations(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = make_corpus()
    network, batch = network_of(corpus, make_config()).eval(), some(corpus)
    encoded = network.encode(batch)
    forward = network.decide(batch, encoded)
    refined = network.spec.refinement.refine(network.parts["adaptive_encoding"], encoded)
    for modality in corpus.modalities:
        assert torch.equal(forward.representations[modality].hidden, refined[modality].hidden)
        assert not torch.equal(forward.representations[modality].hidden, encoded[modality].hidden)


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
def test_a_prediction_does_not_depend_on_the_others_in_its_batch(
    make_corpus: MakeCorpus, make_config: MakeConfig, layout: str
) -> None:
    corpus = make_corpus(layout=layout)
    network = network_of(corpus, make_config()).eval()
    together = network.predict(some(corpus, 8))
    alone = torch.cat([network.predict(each) for each in list(batches(corpus.splits["train"], 1))[:8]])
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
def test_refined_representations_conclude_in_the_prediction_whatever_the_size_of_the_batch(
    make_corpus: MakeCorpus, make_config: MakeConfig, layout: str
) -> None:
    corpus = make_corpus(layout=layout)
    network = network_of(corpus, make_config()).eval()
    forward, other = (network.decide(batch, network.encode(batch)) for batch in (some(corpus, 8), some(corpus, 3)))
    assert torch.equal(forward.conclude(forward.representations), forward.prediction)
    torch.testing.assert_close(
        forward.conclude(other.representations), other.prediction, msg="parameters and not the batch decide"
    )


def test_a_conclusion_has_no_dropout_and_leaves_that_of_training_on(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus = make_corpus()
    network = network_of(corpus, make_config(encoder={"dropout": 0.5})).train()
    forward = network.decide(some(corpus), network.encode(some(corpus)))
    first, second = (forward.conclude(forward.representations) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, forward.prediction)
    assert all(module.training for module in network.modules())


def test_a_method_without_shared_states_shares_nothing(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = make_corpus()
    network = network_of(corpus, make_config())
    assert network.decide(some(corpus), network.encode(some(corpus))).shared == {}


def test_a_loss_of_the_modulators_own_stands_behind_the_terms_under_its_name(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus = make_corpus()
    network = network_of(corpus, make_config(conflict_penalty=None))
    network.spec = dataclasses.replace(network.spec, modulator=Wishing())
    network.parts["wishing"] = nn.Module()
    forward = network.decide(some(corpus), network.encode(some(corpus)))
    losses = network.losses(forward)
    assert list(losses) == ["task", *network.spec.terms, "wishing"]
    assert torch.equal(losses["wishing"], 3 * forward.prediction.square().mean())


def test_another_seed_draws_every_weight_matrix_anew(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = make_corpus()
    first, second = (network_of(corpus, make_config(), seed).state_dict() for seed in (0, 1))
    matrices = [name for name, tensor in first.items() if tensor.dim() > 1]
    assert len(matrices) > 20
    assert [name for name in matrices if torch.equal(first[name], second[name])] == []


def test_initial_weights_depend_on_no_earlier_draw_and_disturb_none(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus = make_corpus()
    first = network_of(corpus, make_config()).state_dict()
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    second = network_of(corpus, make_config()).state_dict()
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_modalities_of_equal_width_do_not_start_alike(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    network = network_of(make_corpus(audio_width=6), make_config())
    weights = {name: dict(encoder.named_parameters())["project.weight"] for name, encoder in network.encoders.items()}
    assert weights["text"].shape == weights["audio"].shape
    assert not torch.equal(weights["text"], weights["audio"])


def test_the_cut_keeps_values_and_masks_and_starts_a_new_graph(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus = make_corpus()
    encoded = network_of(corpus, make_config()).encode(some(corpus))
    for modality, leaf in cut(encoded).items():
        assert torch.equal(leaf.hidden, encoded[modality].hidden)
        assert leaf.mask is encoded[modality].mask
        assert leaf.hidden.is_leaf
        assert leaf.hidden.requires_grad
