import numpy as np
import pytest
import torch

from msa_models import seeding


def test_a_derived_seed_never_changes_between_versions_and_machines() -> None:
    assert seeding.derive(0) == 4761921975702974394
    assert seeding.derive(3, "order", 17) == 2973491456427872130


def test_distinct_seeds_and_purposes_give_distinct_seeds_of_63_bits() -> None:
    purposes = [(), ("order",), ("dropout",), ("order", 1), ("order", 11), ("component", "gated_fusion")]
    derived = [seeding.derive(seed, *purpose) for seed in range(200) for purpose in purposes]
    assert len(set(derived)) == len(derived)
    assert 0 <= min(derived) < max(derived) < 2**63
    assert max(derived).bit_length() == 63, "all bits are used"


def test_streams_of_neighbouring_purposes_are_uncorrelated() -> None:
    streams = np.stack([seeding.generator(0, "order", epoch).standard_normal(4000) for epoch in range(8)])
    correlations = np.corrcoef(streams) - np.eye(8)
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)


def test_draws_of_a_generator_depend_on_seed_and_purpose_alone() -> None:
    first = seeding.generator(5, "order", 2).permutation(50)
    np.random.seed(123)
    np.random.random(7)
    assert np.array_equal(seeding.generator(5, "order", 2).permutation(50), first)
    assert not np.array_equal(seeding.generator(5, "order", 3).permutation(50), first)
    assert not np.array_equal(seeding.generator(6, "order", 2).permutation(50), first)


def test_draws_inside_a_scope_depend_on_seed_and_purpose_alone() -> None:
    def drawn(seed: int, purpose: str) -> torch.Tensor:
        with seeding.scope(seed, purpose):
            return torch.nn.Linear(5, 3).weight.detach()

    first = drawn(1, "head")
    torch.manual_seed(99)
    torch.rand(13)
    assert torch.equal(drawn(1, "head"), first)
    assert not torch.equal(drawn(1, "fusion"), first)
    assert not torch.equal(drawn(2, "head"), first)


def test_a_scope_leaves_the_draws_outside_as_they_would_have_been() -> None:
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    with seeding.scope(0, "anything"):
        torch.rand(100)
    assert torch.equal(torch.rand(4), expected)


def test_a_scope_that_is_left_by_an_error_still_restores_the_draws_outside() -> None:
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    with pytest.raises(RuntimeError, match="negative dimension"), seeding.scope(0, "anything"):
        torch.rand(3).add_(torch.rand(-1))
    assert torch.equal(torch.rand(4), expected)
