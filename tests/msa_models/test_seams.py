import pytest
import torch
from torch import nn

from msa_models.components.feature_diversity import FeatureDiversity
from msa_models.components.statistical_loss import StatisticalLoss
from msa_models.seams import (
    STATISTICS,
    TASK,
    Concatenation,
    Gradients,
    Representation,
    Shapes,
    Unmodulated,
    Unrefined,
    total,
)

HIDDEN = torch.arange(2 * 4 * 3, dtype=torch.float32).reshape(2, 4, 3)
MASK = torch.tensor([[True, True, False], [True, False, False]])


@pytest.fixture
def gradients() -> Gradients:
    generator = torch.Generator().manual_seed(0)
    return {
        group: {modality: torch.randn(2, 4, 3, generator=generator) for modality in ("text", "audio")}
        for group in (TASK, STATISTICS, "third")
    }


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
    fused = Concatenation().fuse(nn.Module(), both)
    assert torch.equal(fused, torch.cat([HIDDEN[:, 0], -HIDDEN[:, 0]], dim=1))
    shapes = Shapes(inputs={"text": 7, "audio": 2}, sequences=frozenset({"text"}), width=3, outputs=1)
    assert Concatenation().fused_width(shapes) == fused.shape[1]


def test_the_identity_of_refinement_gives_back_what_it_got() -> None:
    given = {"text": Representation(hidden=HIDDEN, mask=MASK)}
    assert Unrefined().refine(nn.Module(), given) is given


def test_the_total_of_gradients_sums_all_groups_and_scales_all_but_the_statistics(gradients: Gradients) -> None:
    scale = {"text": torch.tensor(0.25), "audio": torch.tensor(0.0)}
    found = total(gradients, scale)
    for modality in ("text", "audio"):
        task_side = gradients[TASK][modality] + gradients["third"][modality]
        expected = scale[modality] * task_side + gradients[STATISTICS][modality]
        torch.testing.assert_close(found[modality], expected)
    torch.testing.assert_close(total(gradients)["text"], sum(group["text"] for group in gradients.values()))


def test_a_scale_of_one_changes_no_bit(gradients: Gradients) -> None:
    scaled = total(gradients, {"text": torch.tensor(1.0), "audio": torch.tensor(1.0)})
    assert all(torch.equal(scaled[modality], gradient) for modality, gradient in total(gradients).items())


def test_components_are_named_after_their_files_and_identities_by_what_they_are() -> None:
    assert FeatureDiversity.name == "feature_diversity"
    assert StatisticalLoss.name == "statistical_loss"
    assert [Unrefined.name, Concatenation.name, Unmodulated.name] == ["unrefined", "concatenation", "unmodulated"]


def test_components_with_equal_settings_are_equal_and_hashable() -> None:
    assert len({StatisticalLoss(weight=0.5), StatisticalLoss(weight=0.5), StatisticalLoss()}) == 2
