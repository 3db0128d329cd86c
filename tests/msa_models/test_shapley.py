"""Shapley values against an enumeration of all orders in plain Python, and the estimator against its own statistics."""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from msa_models.shapley import Values, shapley_values

Utility = Callable[[torch.Tensor], torch.Tensor]
few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 10_000)


class Game:
    """A table of utilities (2^M,) or (2^M, B) by the number whose bits are the players; keeps what it was asked."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = torch.from_numpy(table)
        self.asked: list[tuple[bool, ...]] = []
        self.calls = 0

    @property
    def num_players(self) -> int:
        return len(self.table).bit_length() - 1

    def __call__(self, coalitions: torch.Tensor) -> torch.Tensor:
        assert coalitions.dtype == torch.bool
        assert coalitions.shape[1:] == (self.num_players,)
        self.calls += 1
        self.asked += [tuple(row) for row in coalitions.tolist()]
        return self.table[(coalitions * 2 ** torch.arange(self.num_players)).sum(1)]


def random_game(seed: int, num_players: int, *batch: int) -> Game:
    return Game(np.random.default_rng(seed).standard_normal((2**num_players, *batch)))


def near_additive_game(seed: int, num_players: int) -> Game:
    """What each player adds alone, pairwise interactions of a tenth of it, and a little of everything."""
    rng = np.random.default_rng(seed)
    members = (np.arange(2**num_players)[:, None] >> np.arange(num_players)) & 1
    pairs = np.triu(rng.standard_normal((num_players, num_players)), 1)
    interactions = np.einsum("si,ij,sj->s", members, pairs, members)
    return Game(members @ rng.random(num_players) + 0.1 * interactions + 0.01 * rng.standard_normal(len(members)))


def enumerated(table: Sequence[float]) -> list[float]:
    """The definition: the mean marginal contribution over every order, in exact arithmetic."""
    num_players = len(table).bit_length() - 1
    totals = [Fraction(0)] * num_players
    for order in itertools.permutations(range(num_players)):
        present = 0
        for player in order:
            joined = present | 1 << player
            totals[player] += Fraction(table[joined]) - Fraction(table[present])
            present = joined
    return [float(total / math.factorial(num_players)) for total in totals]


@pytest.mark.parametrize("num_players", range(1, 7))
def test_exact_values_equal_an_enumeration_of_all_orders(num_players: int) -> None:
    for seed in range(3):
        game = random_game(seed, num_players)
        found = shapley_values(game, num_players)
        np.testing.assert_allclose(found.values, enumerated(game.table.tolist()), rtol=0, atol=1e-12)
        assert not found.standard_error.any()
        assert found.degrees_of_freedom == 0


def test_players_of_the_glove_game_get_their_textbook_values() -> None:
    def gloves(coalitions: torch.Tensor) -> torch.Tensor:
        """One left glove (player 0), two right ones: a pair is worth 1."""
        return (coalitions[:, 0] & coalitions[:, 1:].any(1)).double()

    np.testing.assert_allclose(shapley_values(gloves, 3).values, [2 / 3, 1 / 6, 1 / 6], rtol=0, atol=1e-15)


@pytest.mark.slow
def test_twenty_players_are_exact_too() -> None:
    weights = torch.arange(1.0, 21.0, dtype=torch.float64)
    found = shapley_values(lambda coalitions: (coalitions * weights).sum(1).square(), 20)
    torch.testing.assert_close(found.values, weights * weights.sum(), rtol=1e-12, atol=0)
    assert found.num_evaluations == 2**20


@pytest.mark.parametrize("num_permutations", [0, 1, 2, 5, 8])
@few
@given(seed=seeds, num_players=st.integers(1, 6))
def test_values_sum_to_what_all_players_gain_together(num_permutations: int, seed: int, num_players: int) -> None:
    game = random_game(seed, num_players)
    found = shapley_values(game, num_players, num_permutations=num_permutations, seed=seed)
    assert float(found.values.sum()) == pytest.approx(float(game.table[-1] - game.table[0]), abs=1e-12)


@few
@given(data=st.data(), seed=seeds)
def test_players_that_are_exchanged_exchange_their_values(data: st.DataObject, seed: int) -> None:
    game, order = random_game(seed, 5), data.draw(st.permutations(range(5)))
    relabelled = shapley_values(lambda coalitions: game(coalitions[:, order]), 5).values
    torch.testing.assert_close(relabelled[order], shapley_values(game, 5).values, rtol=0, atol=1e-12)


@few
@given(seed=seeds, players=st.lists(st.integers(0, 4), min_size=2, max_size=2, unique=True))
def test_players_of_equal_contributions_have_equal_values(seed: int, players: list[int]) -> None:
    game, swapped = random_game(seed, 5), list(range(5))
    swapped[players[0]], swapped[players[1]] = players[1], players[0]
    values = shapley_values(lambda coalitions: game(coalitions) + game(coalitions[:, swapped]), 5).values
    assert float(values[players[0]]) == pytest.approx(float(values[players[1]]), abs=1e-12)


@pytest.mark.parametrize("num_permutations", [0, 1, 4, 7])
@few
@given(seed=seeds, null=st.integers(0, 4))
def test_a_player_that_never_changes_anything_has_no_value(num_permutations: int, seed: int, null: int) -> None:
    game = random_game(seed, 5)
    others = torch.arange(5) != null
    found = shapley_values(
        lambda coalitions: game(coalitions & others), 5, num_permutations=num_permutations, seed=seed
    )
    assert float(found.values[null]) == 0
    assert bool((found.values[others] != 0).all())


@pytest.mark.parametrize("num_permutations", [0, 3, 6])
@few
@given(seed=seeds, p=st.floats(-5, 5), q=st.floats(-5, 5))
def test_values_are_linear_in_the_utility(num_permutations: int, seed: int, p: float, q: float) -> None:
    one, other = random_game(seed, 4), random_game(seed + 1, 4)

    def values(utility: Utility) -> torch.Tensor:
        return shapley_values(utility, 4, num_permutations=num_permutations, seed=seed).values

    combined = values(lambda coalitions: p * one(coalitions) + q * other(coalitions))
    torch.testing.assert_close(combined, p * values(one) + q * values(other), rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_permutations", [0, 17, 18])
def test_a_batch_of_games_has_the_values_of_its_games(num_permutations: int) -> None:
    games = random_game(0, 4, 3)
    together = shapley_values(games, 4, num_permutations=num_permutations, seed=1)
    assert together.values.shape == together.standard_error.shape == (4, 3)
    for i in range(3):
        alone = shapley_values(Game(games.table[:, i].numpy()), 4, num_permutations=num_permutations, seed=1)
        torch.testing.assert_close(together.values[:, i], alone.values)
        torch.testing.assert_close(together.standard_error[:, i], alone.standard_error)
        assert together.num_evaluations == alone.num_evaluations


def test_gradients_flow_through_the_utility_and_its_dtype_is_kept() -> None:
    table = torch.from_numpy(np.random.default_rng(0).standard_normal(8)).float().requires_grad_()

    def utility(coalitions: torch.Tensor) -> torch.Tensor:
        return table[(coalitions * 2 ** torch.arange(3)).sum(1)]

    for num_permutations in (0, 4):
        found = shapley_values(utility, 3, num_permutations=num_permutations, seed=0)
        assert found.values.dtype == found.standard_error.dtype == torch.float32
        (gradient,) = torch.autograd.grad(found.values[1], table)
        torch.testing.assert_close((gradient * table).sum(), found.values[1])


@pytest.mark.parametrize("num_permutations", [0, 1, 2, 7, 40])
@pytest.mark.parametrize("num_players", [1, 2, 3, 6])
def test_every_needed_coalition_is_asked_for_once_and_in_one_call(num_players: int, num_permutations: int) -> None:
    game = random_game(0, num_players)
    found = shapley_values(game, num_players, num_permutations=num_permutations, seed=5)
    assert game.calls == 1
    assert len(set(game.asked)) == len(game.asked) == found.num_evaluations
    if num_permutations == 0:
        assert found.num_evaluations == 2**num_players
    else:
        assert found.num_evaluations <= min(2**num_players, num_permutations * (num_players - 1) + 2)
    if num_permutations == 1:
        assert sorted(map(sum, game.asked)) == list(range(num_players + 1)), "one order is one chain"


def test_the_two_orders_of_a_pair_are_reverses_and_an_odd_one_is_alone() -> None:
    for n in (2, 4, 6):
        game = random_game(0, 9)
        shapley_values(game, 9, num_permutations=n, seed=3)
        assert {tuple(not player for player in coalition) for coalition in game.asked} == set(game.asked)
    odd = random_game(0, 9)
    shapley_values(odd, 9, num_permutations=5, seed=3)
    assert {tuple(not player for player in coalition) for coalition in odd.asked} != set(odd.asked)


def test_pairwise_interactions_are_exact_after_one_antithetic_pair() -> None:
    rng = np.random.default_rng(0)
    members = (np.arange(64)[:, None] >> np.arange(6)) & 1
    game = Game(np.einsum("si,ij,sj->s", members, rng.standard_normal((6, 6)), members))
    exact = shapley_values(game, 6).values
    for seed in range(5):
        pair = shapley_values(game, 6, num_permutations=2, seed=seed).values
        torch.testing.assert_close(pair, exact, rtol=0, atol=1e-12)
        single = shapley_values(game, 6, num_permutations=1, seed=seed).values
        assert float((single - exact).abs().max()) > 0.1


def sampled(game: Game, num_permutations: int, count: int) -> list[Values]:
    return [
        shapley_values(game, game.num_players, num_permutations=num_permutations, seed=seed) for seed in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("num_permutations", [1, 2, 5])
def test_the_estimate_is_unbiased(num_permutations: int) -> None:
    game = random_game(7, 5)
    estimates = torch.stack([found.values for found in sampled(game, num_permutations, 1500)])
    deviation = (estimates.mean(0) - shapley_values(game, 5).values) / (estimates.std(0) / math.sqrt(1500))
    assert float(deviation.abs().max()) < 4


@pytest.mark.slow
def test_the_error_falls_with_the_root_of_the_number_of_permutations() -> None:
    game = random_game(8, 6)
    exact, counts = shapley_values(game, 6).values, [4, 16, 64, 256]
    errors = [
        float(torch.stack([found.values - exact for found in sampled(game, n, 150)]).square().mean().sqrt())
        for n in counts
    ]
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.05)


@pytest.mark.slow
def test_antithetic_pairs_vary_less_than_independent_orders_on_a_near_additive_game() -> None:
    game = near_additive_game(0, 6)
    antithetic = torch.stack([found.values for found in sampled(game, 2, 600)]).var(0)
    plain = torch.stack([found.values for found in sampled(game, 1, 1200)]).unflatten(0, (600, 2)).mean(1).var(0)
    assert bool((antithetic < 0.25 * plain).all())


@pytest.mark.slow
@pytest.mark.parametrize(("num_players", "num_permutations"), [(3, 16), (5, 21), (5, 60), (8, 16)])
def test_intervals_of_the_standard_error_cover_the_truth_about_as_often_as_they_say(
    num_players: int, num_permutations: int
) -> None:
    game = random_game(9, num_players)
    exact = shapley_values(game, num_players).values
    found = sampled(game, num_permutations, 400)
    assert {f.degrees_of_freedom for f in found} == {num_permutations // 2 - 1}
    reach = float(stats.t.ppf(0.95, found[0].degrees_of_freedom))  # two-sided 90 %
    covered = torch.stack([(f.values - exact).abs() <= reach * f.standard_error for f in found]).double().mean()
    assert 0.85 < float(covered) < 0.96
    spread = torch.stack([f.values for f in found]).std(0)
    claimed = torch.stack([f.standard_error for f in found]).square().mean(0).sqrt()
    np.testing.assert_allclose(claimed, spread, rtol=0.15)


@pytest.mark.parametrize("num_permutations", [1, 2, 3, 15])
def test_the_error_of_fewer_than_eight_pairs_is_unknown(num_permutations: int) -> None:
    found = shapley_values(random_game(0, 4), 4, num_permutations=num_permutations, seed=0)
    assert bool(found.standard_error.isnan().all())
    assert bool(found.values.isfinite().all())
    assert found.degrees_of_freedom == 0


def test_draws_depend_on_the_seed_alone_and_more_orders_extend_fewer() -> None:
    game = random_game(0, 8)
    first = shapley_values(game, 8, num_permutations=16, seed=11)
    np.random.seed(3)
    torch.manual_seed(4)
    torch.rand(5)
    again = shapley_values(game, 8, num_permutations=16, seed=11)
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.standard_error, again.standard_error)
    assert not torch.equal(first.values, shapley_values(game, 8, num_permutations=16, seed=12).values)
    asked = []
    for n in (1, 2, 3, 6, 9):
        game.asked.clear()
        shapley_values(game, 8, num_permutations=n, seed=11)
        asked.append(set(game.asked))
    assert all(fewer < more for fewer, more in itertools.pairwise(asked))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_players": 0}, "at least one player and 0 .* got 0 and 0"),
        ({"num_players": 3, "num_permutations": -1}, "got 3 and -1"),
        ({"num_players": 21}, r"all 2\^21 coalitions; at most 20 players .* num_permutations > 0"),
        ({"num_players": 3, "num_permutations": 4}, "need a seed"),
        ({"utility": lambda c: torch.zeros(3)}, r"coalitions \(8, 3\) .* of shape \(8, …\), got torch.float32 \(3,\)"),
        ({"utility": lambda c: torch.tensor(1.0)}, r"got torch.float32 \(\)"),
        ({"utility": lambda c: c.sum(1)}, "floating-point tensor .* got torch.int64"),
        ({"utility": lambda c: torch.where(c[:, 0] & c[:, 2], math.nan, 1.0)}, r"players \[0, 2\] is not finite"),
        ({"utility": lambda c: torch.full((len(c), 2), math.inf)}, r"players \[\] is not finite"),
    ],
)
def test_faults_are_told_in_one_clear_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as fault:
        shapley_values(**{"utility": lambda c: c.double().sum(1), "num_players": 3, **arguments})
    assert "\n" not in str(fault.value)


def test_hundreds_of_players_can_be_sampled() -> None:
    weights = torch.linspace(-1, 1, 300, dtype=torch.float64)
    found = shapley_values(lambda c: (c * weights).sum(1), 300, num_permutations=16, seed=0)
    torch.testing.assert_close(found.values, weights, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.standard_error, torch.zeros_like(weights), rtol=0, atol=1e-12)
