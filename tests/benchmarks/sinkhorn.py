"""Prototype alignment against POT: three pairs of 7 x 7 prototypes in one call, as many as a training step of PaSE has.

The peer solves the same problems one after the other with POT's torch backend in the log domain, at the same tolerance,
in float32 as they come and in float64, where rounding does not keep it from the tolerance. All take turns in one
process on one thread; a ratio is between medians, above 1 ours is faster. How many updates Sinkhorn needs changes by
orders of magnitude with what the prototypes of two modalities have in common, so there are three cases. The gradient is
that of the plan, ours by implicit differentiation and the peer's through its unrolled updates.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ot
import torch

from msa_models.transport import Potentials, sinkhorn

PAIRS, CLASSES, WIDTH = 3, 7, 64
EPSILON, TOLERANCE = 0.05, 1e-6
MAX_UPDATES, TURNS, CALLS = 2000, 8, 3  # calls in a row, so that each finds its own code in the caches

pot: Any = ot  # its functions are not annotated
uniform = torch.full((CLASSES,), 1 / CLASSES)


def costs(common: float, drift: float = 0.0) -> torch.Tensor:
    """Squared distances (3, 7, 7) of normalised prototypes, each moved by `drift` as by a step of training."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(PAIRS, CLASSES, WIDTH, generator=generator)
    sides = common * shared + torch.randn(2, PAIRS, CLASSES, WIDTH, generator=generator)
    sides = sides + drift * torch.randn(sides.shape, generator=generator)
    first, second = torch.nn.functional.normalize(sides, dim=-1)
    return torch.cdist(first, second).square()


def ours(cost: torch.Tensor, start: Potentials | None = None) -> torch.Tensor:
    """The plans (3, 7, 7) in one call."""
    return sinkhorn(cost, uniform, uniform, EPSILON, tolerance=TOLERANCE, potentials=start).plan


def theirs(cost: torch.Tensor) -> torch.Tensor:
    """The plans (3, 7, 7) in three calls."""
    a = uniform.to(cost.dtype)
    settings = {"method": "sinkhorn_log", "stopThr": TOLERANCE, "numItermax": MAX_UPDATES, "warn": False}
    return torch.stack([pot.sinkhorn(a, a, one, EPSILON, **settings) for one in cost])


def gradient(solve: Callable[[torch.Tensor], torch.Tensor], cost: torch.Tensor) -> torch.Tensor:
    """Of the plans' asymmetry, the term of the alignment loss that needs the plan's own gradient."""
    cost = cost.clone().requires_grad_()
    plan = solve(cost)
    return torch.autograd.grad((plan - plan.mT).square().sum(), cost)[0]


def medians(contenders: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds per call, the contenders taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(TURNS):
        for name, call in contenders.items():
            for _ in range(CALLS):
                start = time.perf_counter()
                call()
                taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Print milliseconds and ratios for plans, cold and warm started, and for plans with their gradient."""
    torch.set_num_threads(1)
    print(f"{PAIRS} pairs of {CLASSES} x {CLASSES}, epsilon {EPSILON}, tolerance {TOLERANCE:g}, milliseconds")
    print(f"(POT stops after {MAX_UPDATES} updates; apart is how far from our plan that leaves its own)")
    print("in common     what    ours    float32  ratio    float64  ratio   apart")
    for common in (0.0, 0.3, 0.6):
        cost = costs(common, drift=0.02)
        start = sinkhorn(costs(common), uniform, uniform, EPSILON).potentials
        apart = float((ours(cost) - theirs(cost.double())).abs().max())
        assert float((ours(cost, start) - ours(cost)).abs().max()) < 1e-6
        found = medians(
            {
                "cold": partial(ours, cost),
                "warm": partial(ours, cost, start),
                "gradient": partial(gradient, ours, cost),
                "float32": partial(theirs, cost),
                "float64": partial(theirs, cost.double()),
                "float32 gradient": partial(gradient, theirs, cost),
                "float64 gradient": partial(gradient, theirs, cost.double()),
            }
        )
        for name in ("cold", "warm", "gradient"):
            peers = [found[f"{dtype} gradient" if name == "gradient" else dtype] for dtype in ("float32", "float64")]
            ratios = "  ".join(f"{peer:9.2f} {peer / found[name]:6.1f}" for peer in peers)
            print(f"{common:9.1f} {name:>8s} {found[name]:7.2f}  {ratios} {apart:7.0e}")


if __name__ == "__main__":
    main()
