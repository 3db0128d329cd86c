import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.prototypes import PrototypeMemory
from msa_models.seams import Shapes

WIDTH = 4


def parts_of(memory: PrototypeMemory, outputs: int = 1, limit: float = 3.0) -> nn.Module:
    shapes = Shapes(inputs={"text": 2, "audio": 3}, sequences=frozenset(), width=WIDTH, outputs=outputs, limit=limit)
    return memory.parts(shapes)


def test_seven_classes_on_the_range_of_mosi_are_those_of_acc7() -> None:
    memory = PrototypeMemory()
    targets = np.linspace(-3.6, 3.6, 145, dtype=np.float32)
    found = memory.labels(parts_of(memory), torch.from_numpy(targets))
    assert found.tolist() == (np.round(np.clip(targets, -3, 3)) + 3).astype(int).tolist()


@pytest.mark.parametrize(("classes", "limit"), [(2, 3.0), (4, 1.0), (5, 1.0), (12, 3.0)])
def test_classes_are_equal_steps_of_the_range_from_its_lower_to_its_upper_end(classes: int, limit: float) -> None:
    memory = PrototypeMemory(classes=classes)
    targets = np.random.default_rng(0).uniform(-limit, limit, 500).astype(np.float32)
    found = memory.labels(parts_of(memory, limit=limit), torch.from_numpy(targets))
    grid = np.linspace(-limit, limit, classes)
    assert found.tolist() == np.abs(targets[:, None] - grid).argmin(1).tolist()


def test_a_classification_task_keeps_its_own_classes() -> None:
    memory, targets = PrototypeMemory(classes=7), torch.tensor([0, 2, 1])
    parts = parts_of(memory, outputs=3)
    assert memory.labels(parts, targets) is targets
    assert memory.recall(parts).centers.shape == (2, 3, WIDTH)


def test_several_labels_share_a_sample_and_to_have_none_is_a_class_too() -> None:
    memory = PrototypeMemory(gamma=0.5)
    shapes = Shapes(inputs={"text": 2}, sequences=frozenset(), width=WIDTH, outputs=2, several=True)
    parts = memory.parts(shapes)
    targets = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    labels = memory.labels(parts, targets)
    assert labels.tolist() == [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    pooled = torch.randn(1, 3, WIDTH, generator=torch.Generator().manual_seed(0))
    first = memory.learn(parts, pooled, labels).centers[0]
    torch.testing.assert_close(first, torch.stack([pooled[0, 0], pooled[0, :2].mean(0), pooled[0, 2]]))
    second = memory.learn(parts, 3 * pooled[:, :1], labels[:1]).centers[0]
    torch.testing.assert_close(second[:2], (first[:2] + 3 * pooled[0, 0]) / 2)
    assert torch.equal(second[2], first[2]), "nobody is without a label in this batch"


def test_prototypes_are_exponential_averages_of_batch_means_that_begin_with_the_first_and_skip_absent_classes() -> None:
    memory, draws = PrototypeMemory(gamma=0.9), np.random.default_rng(0)
    parts = parts_of(memory, outputs=4)
    expected: dict[int, np.ndarray] = {}
    for step in range(12):
        labels = draws.integers(0, 3 if step < 6 else 4, 5)
        pooled = draws.standard_normal((2, 5, WIDTH)).astype(np.float32)
        found = memory.learn(parts, torch.from_numpy(pooled), torch.from_numpy(labels))
        for label in set(labels.tolist()):
            mean = pooled[:, labels == label].mean(1)
            expected[label] = 0.9 * expected[label] + 0.1 * mean if label in expected else mean
        for label in range(4):
            assert bool(found.seen[label]) == (label in expected)
            np.testing.assert_allclose(found.centers[:, label], expected.get(label, np.zeros((2, WIDTH))), atol=1e-6)
        assert torch.equal(memory.recall(parts).centers, found.centers)


def test_what_was_recalled_does_not_change_when_the_prototypes_learn_on() -> None:
    memory = PrototypeMemory()
    parts = parts_of(memory, outputs=2)
    before = memory.recall(parts)
    memory.learn(parts, torch.ones(2, 3, WIDTH), torch.tensor([0, 0, 0]))
    assert not before.centers.any()
    assert not before.seen.any()
    assert memory.recall(parts).centers[:, 0].all()


def test_logits_are_cosines_over_tau_among_the_classes_seen() -> None:
    memory = PrototypeMemory(tau=0.5)
    parts = parts_of(memory, outputs=3)
    unit = nn.functional.normalize(torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert not memory.recall(parts).logits(unit).any(), "before any class was seen, none is likelier"
    batch = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    known = memory.learn(parts, batch, torch.tensor([0, 2, 2, 0]))
    found = known.logits(unit)
    assert (found[:, :, 1] == -torch.inf).all()
    for label in (0, 2):
        for modality in range(2):
            expected = nn.functional.cosine_similarity(unit[modality], known.centers[modality, label], dim=-1) / 0.5
            torch.testing.assert_close(found[modality, :, label], expected)
