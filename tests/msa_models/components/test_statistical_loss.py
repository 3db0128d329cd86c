from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.statistical_loss import StatisticalLoss
from msa_models.representations import STATISTICS, Forward
from msa_models.seams import Component

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]


@pytest.mark.parametrize("sequences", [("text", "audio", "vision"), (), ("audio",)], ids=["sequences", "none", "mixed"])
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio",)])
def test_it_compares_predicted_with_empirical_moments_over_time_or_else_over_the_batch(
    make_forward: MakeForward, make_parts: MakeParts, modalities: tuple[str, ...], sequences: tuple[str, ...]
) -> None:
    forward = make_forward(modalities, sequences=sequences)
    parts = make_parts(StatisticalLoss(), forward)
    assert isinstance(parts, nn.ModuleDict)
    losses = []
    for modality in modalities:
        weight, bias = (each.detach().numpy() for each in parts[modality].parameters())
        predicted = forward.representations[modality].hidden[:, 0].detach().numpy() @ weight.T + bias
        inputs = forward.batch.inputs[modality].numpy()
        if modality in forward.batch.masks:
            features = inputs.shape[-1]
            cells = []
            for sample, mask in enumerate(forward.batch.masks[modality].numpy()):
                real = inputs[sample][mask]
                mean = (predicted[sample, :features] - real.mean(0)) ** 2
                cells.append(mean + (predicted[sample, features:] - real.std(0)) ** 2)
            losses.append(np.mean(cells))
        else:
            mean = (predicted.mean(0) - inputs.mean(0)) ** 2
            losses.append(np.mean(mean + (predicted.std(0) - inputs.std(0)) ** 2))
    assert StatisticalLoss().loss(parts, forward).item() == pytest.approx(np.mean(losses), abs=1e-4)


def test_of_predictions_it_compares_mean_and_deviation_with_those_of_the_labels(
    make_forward: MakeForward, make_parts: MakeParts
) -> None:
    forward = make_forward()
    component = StatisticalLoss(target="prediction")
    predicted, labels = forward.prediction.detach().numpy()[:, 0], forward.batch.targets.numpy()
    expected = (predicted.mean() - labels.mean()) ** 2 + (predicted.std() - labels.std()) ** 2
    parts = make_parts(component, forward)
    assert list(parts.parameters()) == []
    assert component.loss(parts, forward).item() == pytest.approx(expected, abs=1e-7)


def test_of_classes_it_compares_probabilities_with_one_hot_labels_averaged_over_classes(
    make_forward: MakeForward, make_parts: MakeParts
) -> None:
    forward = make_forward(outputs=3)
    component = StatisticalLoss(target="prediction")
    scores = forward.prediction.detach().numpy()
    predicted = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    labels = np.eye(3)[forward.batch.targets.numpy()]
    distances = (predicted.mean(0) - labels.mean(0)) ** 2 + (predicted.std(0) - labels.std(0)) ** 2
    assert component.loss(make_parts(component, forward), forward).item() == pytest.approx(distances.mean(), abs=1e-4)


def test_perfect_statistics_cost_nothing(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = make_forward(("audio",))
    parts = make_parts(StatisticalLoss(), forward)
    head = parts.get_submodule("audio")
    assert isinstance(head, nn.Linear)
    inputs = forward.batch.inputs["audio"]
    mask = forward.batch.masks["audio"]
    moments = torch.stack(
        [
            torch.cat([values[real].mean(0), values[real].std(0, correction=0)])
            for values, real in zip(inputs, mask, strict=True)
        ]
    )
    with torch.no_grad():
        head.weight.copy_(torch.eye(8))
        head.bias.zero_()
        forward.representations["audio"].hidden[:, 0] = moments
    assert StatisticalLoss().loss(parts, forward).item() < 1e-7


@pytest.mark.parametrize("target", ["input", "prediction"])
@pytest.mark.parametrize("sequences", [("text",), ()], ids=["sequence", "utterance"])
def test_a_batch_of_one_has_a_finite_gradient(
    make_forward: MakeForward, make_parts: MakeParts, sequences: tuple[str, ...], target: str
) -> None:
    forward = make_forward(("text",), sequences=sequences, batch=1)
    component = StatisticalLoss(target="input" if target == "input" else "prediction")
    loss = component.loss(make_parts(component, forward), forward)
    loss.backward()
    leaf = forward.representations["text"].hidden if target == "input" else forward.prediction
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    assert leaf.grad.any()


def test_its_gradients_are_a_group_of_their_own() -> None:
    assert StatisticalLoss.group == STATISTICS
