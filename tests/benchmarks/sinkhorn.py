"""Prototype alignment against POT: three pairs of 7 x 7 prototypes in one call, as many as a training step of PaSE has.

The peer solves the same problems one after the other with POT's torch backend, in the log domain and in the plain one,
at the same tolerance. All take turns in one process on one thread; a ratio is between medians, above 1 ours is faster.
The gradient is that of the plan, ours implicit and the peer's through its unrolled updates. Plans are checked first.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import ot
import torch

from msa_models.transport import sinkhorn

PAIRS, CLASSES, WIDTH = 3, 7, 128
EPSILON, TOLERANCE, REPEATS = 0.05, 1e-6, 60

pot: Any = ot  # its functions are not annotated


def costs(seed: int, drift: float = 0.0) -> torch.Tensor:
    """Squared distances (3, 7, 7) of normalised prototypes, which one step of training moves by `drift`."""
    generator = torch.Generator().manual_seed(seed)
    sides = torch.randn(2, PAIRS, CLASSES, WIDTH, generator=generator)
    sides = sides + drift * torch.randn(sides.shape, generator=generator)
    first, second = torch.nn.functional.normalize(sides, dim=-1)
    return torch.cdist(first, second).square()


def ours(cost: torch.Tensor, start: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
    """The plans (3, 7, 7) in one call."""
    uniform = torch.full((CLASSES,), 1 / CLASSES)
    return sinkhorn(cost, uniform, uniform, EPSILON, tolerance=TOLERANCE, potentials=start).plan


def theirs(cost: torch.Tensor, method: str) -> torch.Tensor:
    """The plans (3, 7, 7) in three calls."""
    uniform = torch.full((CLASSES,), 1 / CLASSES)
    settings = {"method": method, "stopThr": TOLERANCE, "numItermax": 10_000, "warn": False}
    return torch.stack([pot.sinkhorn(uniform, uniform, one, EPSILON, **settings) for one in cost])


def gradient(solve: Callable[[torch.Tensor], torch.Tensor], cost: torch.Tensor) -> torch.Tensor:
    """Of the plans' asymmetry, the term of the alignment loss that needs the plan's own gradient."""
    cost = cost.clone().requires_grad_()
    plan = solve(cost)
    return torch.autograd.grad((plan - plan.mT).square().sum(), cost)[0]


def medians(contenders: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds per call, the contenders taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(REPEATS):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Print milliseconds and ratios for plans (cold and warm started) and their gradients."""
    torch.set_num_threads(1)
    cost, moved = costs(0), costs(0, drift=0.02)
    uniform = torch.full((CLASSES,), 1 / CLASSES)
    start = sinkhorn(cost, uniform, uniform, EPSILON).potentials
    assert float((ours(moved) - theirs(moved, "sinkhorn_log")).abs().max()) < 2e-6
    assert float((ours(moved, start) - ours(moved)).abs().max()) < 2e-6
    found = medians(
        {
            "cold": lambda: ours(moved),
            "warm": lambda: ours(moved, start),
            "cold gradient": lambda: gradient(ours, moved),
            "POT log": lambda: theirs(moved, "sinkhorn_log"),
            "POT plain": lambda: theirs(moved, "sinkhorn"),
            "POT log gradient": lambda: gradient(lambda cost: theirs(cost, "sinkhorn_log"), moved),
        }
    )
    print(f"{PAIRS} pairs of {CLASSES} x {CLASSES}, epsilon {EPSILON}, tolerance {TOLERANCE}, medians of {REPEATS}")
    for name, peer in (
        ("cold", "POT log"),
        ("cold", "POT plain"),
        ("warm", "POT log"),
        ("cold gradient", "POT log gradient"),
    ):
        ratio = found[peer] / found[name]
        print(f"{name:14s} {found[name] * 1e3:7.2f} ms   {peer:17s} {found[peer] * 1e3:7.2f} ms   ratio {ratio:5.1f}")


if __name__ == "__main__":
    main()
