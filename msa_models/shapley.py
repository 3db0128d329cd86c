"""Shapley values of a cooperative game: exact over all coalitions, or estimated from antithetic permutations.

psi_i is player i's mean marginal contribution u(S + i) - u(S) over all orders in which players can join, with S those
who came before i (Shapley 1953). PaSE (arXiv:2511.17585) takes the modalities as players [paper]. The estimate averages
over sampled orders (Castro et al. 2009, Computers & Operations Research 36(5)), each drawn together with its reverse
(Mitchell et al. 2022, arXiv:2104.12199), which cancels what interactions of two players add to the variance.

S coalitions, M players, n permutations, `…` any trailing dimensions of the utility (one game each).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from msa_models import seeding

MAX_PLAYERS_EXACT = 20  # 2^20 coalitions
MAX_PLAYERS_CACHED = 10  # of more, the list of all coalitions takes megabytes
MIN_PAIRS = 8  # 90 % intervals cover 0.87 to 0.94 from here on, but 0.39 with two pairs of three players

Utility = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Values:
    """What `shapley_values` returns.

    `values` (M, …) in the unit and dtype of the utility; they sum to u(all players) - u(no player), sampled or not.
    `standard_error` (M, …) of the values: 0 where they are exact, NaN below 8 antithetic pairs. So few repeat each
    other too often for their spread to mean anything: three players have only three distinct pairs.
    `degrees_of_freedom` of the standard error, the number of pairs minus one: an interval of a given coverage takes the
    quantile of Student's t with as many. 0 where the values are exact or their error is unknown.
    `num_evaluations`: distinct coalitions the utility was asked for; with few players far less than n (M + 1).
    """

    values: torch.Tensor
    standard_error: torch.Tensor
    degrees_of_freedom: int
    num_evaluations: int


def shapley_values(
    utility: Utility, num_players: int, *, num_permutations: int = 0, seed: int | Sequence[int] | None = None
) -> Values:
    """The Shapley value of each player of a game given by `utility`.

    `utility` is called once, with all the coalitions that are needed, each one once, as a bool tensor (S, M) (True: the
    player takes part); it returns their utilities (S, …), finite. Values are linear in them, and gradients flow.

    `num_permutations` = 0 is exact and needs all 2^M coalitions, M at most 20. n > 0 averages over exactly n orders:
    n // 2 drawn independently with replacement, their reverses, and where n is odd one more without its reverse [ours].
    The estimate is unbiased for every n. It asks for at most n (M - 1) + 2 coalitions, so it pays only where that is
    below 2^M: exact values of three modalities cost 8. Draws depend on `seed` and M alone; more orders extend fewer.
    Of several seeds each is that of one game, in the order of the utility's only trailing dimension.

    The standard error comes from the spread of the pairs' means [ours], since the two orders of a pair are dependent.
    The odd order enters with the spread of single orders.

    Raises ValueError on counts out of range, sampling without a seed, and utilities of another shape or not finite.
    """
    if num_players < 1 or num_permutations < 0:
        raise ValueError(
            f"expected at least one player and 0 (exact) or more permutations, got {num_players} and {num_permutations}"
        )
    if num_permutations == 0:
        return _exact(utility, num_players)
    if seed is None:
        raise ValueError("sampled permutations need a seed, e.g. seed=seeding.derive(seed, 'shapley', epoch)")
    seeds = [seed] if isinstance(seed, int) else seed
    return _sampled(utility, [_orders(num_players, num_permutations, each) for each in seeds])


def _exact(utility: Utility, num_players: int) -> Values:
    if num_players > MAX_PLAYERS_EXACT:
        raise ValueError(
            f"exact Shapley values need all 2^{num_players} coalitions; at most {MAX_PLAYERS_EXACT} players are "
            "supported: sample with num_permutations > 0"
        )
    every = _every if num_players <= MAX_PLAYERS_CACHED else _every.__wrapped__
    coalitions, joined, weights = every(num_players)
    utilities, dtype = _evaluated(utility, coalitions)
    device = utilities.device
    gains = utilities[joined[1].to(device)] - utilities[joined[0].to(device)]  # (M, 2^(M - 1), …)
    weights = weights.to(device).reshape(*weights.shape, *[1] * (gains.dim() - 2))
    exact = (weights * gains).sum(1).to(dtype)
    return Values(
        values=exact,
        standard_error=torch.zeros_like(exact),
        degrees_of_freedom=0,
        num_evaluations=len(coalitions),
    )


@cache
def _every(num_players: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All coalitions (2^M, M); where those without and with each player stand (2, M, 2^(M - 1)); and the weight of each
    such step in the player's value (M, 2^(M - 1)), s! (M - 1 - s)! / M! after s others.
    """
    players = torch.arange(num_players)
    coalitions = (torch.arange(2**num_players).unsqueeze(1) >> players) & 1 == 1
    without = torch.stack([(~coalitions[:, player]).nonzero().squeeze(1) for player in players])
    of_size = [1 / (num_players * math.comb(num_players - 1, size)) for size in range(num_players)]
    weights = torch.tensor(of_size, dtype=torch.float64)[coalitions.sum(1)[without]]
    return coalitions, torch.stack([without, without + 2 ** players.unsqueeze(1)]), weights


def _orders(num_players: int, num_permutations: int, seed: int) -> torch.Tensor:
    """Permutations (n, M): rows 2k and 2k + 1 are reverses of each other, and a last row of an odd n is alone."""
    num_drawn = (num_permutations + 1) // 2
    rows = np.tile(np.arange(num_players), (num_drawn, 1))
    drawn = torch.from_numpy(seeding.generator(seed, "shapley", num_players).permuted(rows, axis=1))
    return torch.stack([drawn, drawn.flip(1)], dim=1).flatten(0, 1)[:num_permutations]


def _sampled(utility: Utility, orders: Sequence[torch.Tensor]) -> Values:
    """By the same orders (n, M) of all games, or those of each of them."""
    num_orders, num_players = orders[0].shape
    ranks = [each.argsort(1) for each in orders]
    steps = torch.arange(num_players + 1).unsqueeze(1)
    joined = torch.stack([each.unsqueeze(1) < steps for each in ranks])  # (…, n, M + 1, M): who came within k steps
    coalitions, where = torch.unique(joined.flatten(0, 2), dim=0, return_inverse=True)
    utilities, dtype = _evaluated(utility, coalitions)
    where = where.to(utilities.device).view(joined.shape[:-1])
    rows = torch.arange(num_orders).unsqueeze(1)
    games = [utilities] if len(orders) == 1 else utilities.unbind(1)
    found = [  # each (n, M, …) by player
        game[own].diff(dim=1)[rows, rank] for game, own, rank in zip(games, where, ranks, strict=True)
    ]
    contributions = found[0] if len(orders) == 1 else torch.stack(found, dim=-1)
    return Values(
        values=contributions.mean(0).to(dtype),
        standard_error=_standard_error(contributions).to(dtype),
        degrees_of_freedom=num_orders // 2 - 1 if num_orders // 2 >= MIN_PAIRS else 0,
        num_evaluations=len(coalitions),
    )


def _standard_error(contributions: torch.Tensor) -> torch.Tensor:
    num_orders = len(contributions)
    num_pairs = num_orders // 2
    if num_pairs < MIN_PAIRS:
        return torch.full_like(contributions[0], math.nan)
    sums = contributions[: 2 * num_pairs].unflatten(0, (num_pairs, 2)).sum(1)
    variance = num_pairs * sums.var(0)
    if num_orders % 2:
        variance = variance + contributions.var(0)
    return variance.sqrt() / num_orders


def _evaluated(utility: Utility, coalitions: torch.Tensor) -> tuple[torch.Tensor, torch.dtype]:
    """The utilities (S, …) in float64, and the dtype they came in."""
    utilities = utility(coalitions)
    if not utilities.is_floating_point() or utilities.dim() < 1 or len(utilities) != len(coalitions):
        raise ValueError(
            f"the utility of coalitions {tuple(coalitions.shape)} must be a floating-point tensor of shape "
            f"({len(coalitions)}, …), got {utilities.dtype} {tuple(utilities.shape)}"
        )
    if not bool(utilities.isfinite().all()):
        broken = ~utilities.isfinite().unsqueeze(-1).flatten(1).all(1)
        players = coalitions[broken.nonzero()[0, 0].cpu()].nonzero().flatten().tolist()
        raise ValueError(f"the utility of the coalition of players {players} is not finite")
    return utilities.to(torch.float64), utilities.dtype
