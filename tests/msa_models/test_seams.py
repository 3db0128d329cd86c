import math

import pytest
import torch
from torch import nn

from msa_models.batch import Batch
from msa_models.components.feature_diversity import FeatureDiversity
from msa_models.components.statistical_loss import StatisticalLoss
from msa_models.representations import STATISTICS, TASK, Forward, Gradients, Representation
from msa_models.seams import Concatenation, Immediately, Progress, Shapes, Unmodulated, Unrefined

HIDDEN = torch.arange(2 * 4 * 3, dtype=torch.float32).reshape(2, 4, 3)
MASK = torch.tensor([[True, True, False], [True, False, False]])


@pytest.fixture
def gradients() -> Gradients:
    generator = torch.Generator().manual_seed(0)
    return Gradients(
        {
            group: {modality: torch.randn(2, 4, 3, generator=generator) for modality in ("text", "audio")}
            for group in (TASK, STATISTICS, "third")
        }
    )


@pytest.fixture
def forward() -> Forward:
    """A forward pass of which nothing is read."""
    representations = {name: Representation(hidden=HIDDEN, mask=MASK) for name in ("text", "audio")}
    nothing = torch.zeros(2)
    return Forward(
        batch=Batch(inputs={}, masks={}, targets=nothing),
        representations=representations,
        prediction=nothing.unsqueeze(1),
        task_loss=lambda prediction, targets: prediction.sum(),
        conclude=lambda representations: nothing.unsqueeze(1),
    )


def test_a_sequence_has_its_summary_in_front_of_its_steps() -> None:
    sequence = Representation(hidden=HIDDEN, mask=MASK)
    assert torch.equal(sequence.pooled, HIDDEN[:, 0])
    assert torch.equal(sequence.steps, HIDDEN[:, 1:])


def test_an_utterance_is_its_own_only_step() -> None:
    utterance = Representation(hidden=HIDDEN[:, :1])
    assert torch.equal(utterance.pooled, HIDDEN[:, 0])
    assert torch.equal(utterance.steps, HIDDEN[:, :1])


def test_the_identity_of_fusion_concatenates_the_summaries_in_order() -> None:
    both = {"text": Representation(hidden=HIDDEN, mask=MASK), "audio": Representation(hidden=-HIDDEN[:, :1])}
    fused = Concatenation().fuse(nn.Module(), both, {})
    assert torch.equal(fused, torch.cat([HIDDEN[:, 0], -HIDDEN[:, 0]], dim=1))
    shapes = Shapes(inputs={"text": 7, "audio": 2}, sequences=frozenset({"text"}), width=3, outputs=1)
    assert Concatenation().fused_width(shapes) == fused.shape[1]


def test_the_identity_of_refinement_gives_back_what_it_got() -> None:
    given = {"text": Representation(hidden=HIDDEN, mask=MASK)}
    assert Unrefined().refine(nn.Module(), given) is given


def test_the_total_of_gradients_sums_all_groups_and_scales_all_but_the_statistics(gradients: Gradients) -> None:
    scale = {"text": torch.tensor(0.25), "audio": torch.tensor(0.0)}
    found = gradients.total(scale)
    for modality in ("text", "audio"):
        task_side = gradients.groups[TASK][modality] + gradients.groups["third"][modality]
        expected = scale[modality] * task_side + gradients.groups[STATISTICS][modality]
        torch.testing.assert_close(found[modality], expected)
    everything = torch.stack([group["text"] for group in gradients.groups.values()]).sum(0)
    torch.testing.assert_close(gradients.total()["text"], everything)


def test_a_scale_of_one_changes_no_bit(gradients: Gradients) -> None:
    scaled = gradients.total({"text": torch.tensor(1.0), "audio": torch.tensor(1.0)})
    assert all(torch.equal(scaled[modality], gradient) for modality, gradient in gradients.total().items())


def test_magnitudes_are_the_rms_of_all_groups_but_the_statistics_with_squares_summed_over_time(
    gradients: Gradients,
) -> None:
    expected = []
    for modality in ("text", "audio"):
        task, third = (gradients.groups[group][modality].double().numpy() for group in (TASK, "third"))
        cells = [sum(column**2) for sample in task + third for column in sample.T]
        expected.append(math.sqrt(sum(cells) / len(cells)))
    assert gradients.magnitudes.tolist() == pytest.approx(expected, rel=1e-6)


def test_the_identity_of_modulation_sums_the_groups_and_logs_nothing(gradients: Gradients, forward: Forward) -> None:
    found = Unmodulated().balance(nn.Module(), gradients, forward, Progress())
    assert found.step_scale is None
    assert found.log == {}
    assert all(torch.equal(found.gradients[modality], each) for modality, each in gradients.total().items())
    assert Unmodulated().loss(nn.Module(), forward) is None


def test_the_identity_of_scheduling_begins_at_once() -> None:
    assert [Immediately().start(history, 4) for history in ([], [0.5], [math.nan, 0.1])] == [0, 0, 0]


def test_progress_is_the_share_of_the_epochs_gone_by() -> None:
    assert [Progress(epoch=epoch, epochs=8, step=5).share for epoch in (0, 2, 7)] == [0.0, 0.25, 0.875]


def test_components_are_named_after_their_files_and_identities_by_what_they_are() -> None:
    assert FeatureDiversity.name == "feature_diversity"
    assert StatisticalLoss.name == "statistical_loss"
    identities = [Unrefined.name, Concatenation.name, Unmodulated.name, Immediately.name]
    assert identities == ["unrefined", "concatenation", "unmodulated", "immediately"]


def test_components_with_equal_settings_are_equal_and_hashable() -> None:
    assert len({StatisticalLoss(weight=0.5), StatisticalLoss(weight=0.5), StatisticalLoss()}) == 2
