"""Calibration, alignment, prototype-gated fusion and the dual phase."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.batch import batches
from msa_models.components.dual_phase import DualPhase
from msa_models.components.prototype_gated_fusion import PrototypeGatedFusion
from msa_models.data.corpus import Corpus
from msa_models.geometry import Prototypes
from msa_models.methods import pase
from msa_models.network import Network, cut, shapes
from msa_models.representations import Forward, Representation
from msa_models.training import Training

MakeCorpus = Callable[..., Corpus]


def network_of(corpus: Corpus) -> Network:
    default = pase.Config()
    config = dataclasses.replace(default, encoder=dataclasses.replace(default.encoder, width=8, heads=2, dropout=0.0))
    return Network(pase.build(config), shapes(corpus, 8), seed=0)


def forward_of(network: Network, corpus: Corpus, targets: torch.Tensor | None = None) -> Forward:
    batch = next(batches(corpus.splits["train"], 12))
    batch = batch if targets is None else dataclasses.replace(batch, targets=targets)
    return network.decide(batch, cut(network.encode(batch)))


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_the_two_losses_are_the_mean_dispersion_and_the_sum_of_misalignments(
    make_corpus: MakeCorpus, task: str, layout: str
) -> None:
    corpus = make_corpus(task, layout=layout)
    network = network_of(corpus).train()
    forward = forward_of(network, corpus)
    losses = network.losses(forward)
    geometry, couplings = forward.shared["prototypes"], forward.shared["transport"]
    assert losses["prototype_calibration"].item() == pytest.approx(0.01 * geometry.dispersion.sum() / 3)
    assert losses["transport_alignment"].item() == pytest.approx(0.1 * couplings.misalignment.sum())
    entropy = forward.log["transport_alignment/plan_entropy"]
    classes = len(geometry.prototypes.seen)
    assert 0.9 * math.log(3) < float(entropy) <= 2 * math.log(classes) + 1e-4


def test_the_fusion_weighs_each_modality_by_the_certainty_of_its_prototypes() -> None:
    draws = torch.Generator().manual_seed(0)
    centers, pooled = (torch.randn(2, size, 4, generator=draws) for size in (3, 5))
    known = Prototypes(centers=centers, seen=torch.tensor([True, False, True]), tau=0.2)
    representations = {
        name: Representation(hidden=each.unsqueeze(1)) for name, each in zip(("text", "audio"), pooled, strict=True)
    }
    found = PrototypeGatedFusion().fuse(nn.Module(), representations, {"prototypes": known})
    for sample in range(5):
        certainty = []
        for modality in range(2):
            cosines = [
                float(nn.functional.cosine_similarity(pooled[modality, sample], centers[modality, k], dim=0)) / 0.2
                for k in (0, 2)
            ]
            p = np.exp(cosines) / np.exp(cosines).sum()
            certainty.append((p * np.log(p)).sum() / np.log(3))
        weights = np.exp(certainty) / np.exp(certainty).sum()
        expected = np.concatenate([2 * weights[m] * pooled[m, sample].numpy() for m in range(2)])
        np.testing.assert_allclose(found[sample], expected, rtol=1e-4, atol=1e-6)


def test_before_any_class_was_seen_the_fusion_is_concatenation() -> None:
    pooled = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    known = Prototypes(centers=torch.zeros(3, 7, 4), seen=torch.zeros(7, dtype=torch.bool), tau=0.1)
    representations = {str(m): Representation(hidden=pooled[m].unsqueeze(1)) for m in range(3)}
    found = PrototypeGatedFusion().fuse(nn.Module(), representations, {"prototypes": known})
    torch.testing.assert_close(found, torch.cat(list(pooled), dim=-1))


def test_no_label_of_the_batch_takes_part_in_its_prediction_not_even_in_training(make_corpus: MakeCorpus) -> None:
    corpus, predictions = make_corpus(layout="utterances"), []
    for sign in (1, -1):
        network = network_of(corpus).train()
        network.head.eval()
        forward_of(network, corpus)  # the prototypes learn, from the same labels in both cases
        targets = sign * next(batches(corpus.splits["train"], 12)).targets
        predictions.append(forward_of(network, corpus, targets).prediction)
    assert torch.equal(*predictions)


@pytest.mark.slow
@pytest.mark.parametrize("utility", ["prototype", "task"])
def test_the_second_phase_begins_when_validation_stops_improving(make_corpus: MakeCorpus, utility: str) -> None:
    corpus, default = make_corpus(layout="utterances"), pase.Config()
    assert default.shapley_modulation is not None
    config = dataclasses.replace(
        default,
        training=dataclasses.replace(default.training, epochs=12, learning_rate=1e-9),
        dual_phase=DualPhase(patience=3, min_delta=10.0, latest=0.9),
        shapley_modulation=dataclasses.replace(default.shapley_modulation, utility=utility),
    )
    measured = list(Training(pase.build(config), corpus, seed=0))
    waited = ["shapley_modulation/factor/text" in each for each in measured]
    assert waited == [False] * 4 + [True] * 8, "the first epoch counts as an improvement, three more do not come"
    assert all("shapley_modulation/gradient_share/text" in each for each in measured)


@pytest.mark.parametrize(
    ("history", "start"),
    [
        ([], None),
        ([1.0, 0.9, 0.8], None),
        ([1.0, 1.0, 1.0], 3),
        ([1.0, 0.9995, 0.9991], 3),
        ([1.0, 0.9995, 0.9989], None),
        ([1.0, math.nan, math.nan], 3),
        ([math.nan, math.nan, 0.5], 2),
        ([1.0, 0.9, 0.8, 0.7, 0.6, 0.5], 6),
        ([1.0, 1.1, 0.5, 0.6, 0.4, 0.3, 0.2], 6),
    ],
)
def test_the_start_is_the_epoch_after_patience_ran_out_or_the_latest_allowed(
    history: list[float], start: int | None
) -> None:
    assert DualPhase(patience=2, latest=0.5).start(history, 12) == start


def test_the_latest_share_of_zero_starts_at_once() -> None:
    assert DualPhase(latest=0.0).start([], 12) == 0


def test_of_an_odd_number_of_epochs_the_larger_half_goes_by_first() -> None:
    falling = [1.0, 0.8, 0.6, 0.4]
    assert [DualPhase(latest=0.5).start(falling[:epochs], 5) for epochs in range(5)] == [None, None, None, 3, 3]
