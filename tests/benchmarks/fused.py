"""Seeds in one pass against seeds one by one: CPU seconds of whole epochs, their evaluation included, on one thread.

On the utterance features of CMU-MOSI where `MSA_MOSI` names the file, else on synthetic ones of the same widths. Both
take turns, an epoch each, so that they see the same machine; the ratio is between medians.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from msa_models import fused
from msa_models.data.corpus import Corpus
from msa_models.training import Training
from orchestrator.plan.configure import known_method
from tests.benchmarks.step_cost import RULES, corpus

SEEDS = (2, 5, 8)
EPOCHS = 6


def trainings(name: str, on: Corpus, number: int, **changes: Any) -> list[Training]:
    """So many, that differ in their seeds; what is late is at work from the first epoch."""
    method = known_method(name)
    config = method.Config()
    settings = dataclasses.replace(config.training, epochs=EPOCHS)
    if hasattr(config, "dual_phase"):
        changes = {"dual_phase": None, **changes}
    spec = method.build(dataclasses.replace(config, training=settings, **changes))
    return [Training(spec, on, seed=seed) for seed in range(number)]


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds that it takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def compared(make: Callable[[], list[Training]]) -> tuple[float, float]:
    """CPU seconds of an epoch of all of them: one by one, and in one pass."""
    alone, together = make(), make()
    each = [
        (
            cpu_s(lambda: [one.train_epoch() for one in alone]),
            cpu_s(lambda: fused.advance(together, lambda: False)),
        )
        for _ in range(EPOCHS)
    ]
    first, second = zip(*each[1:], strict=True)  # the first epoch warms up
    return statistics.median(first), statistics.median(second)


def main() -> None:
    """Print milliseconds of CPU per model and epoch alone, and the ratio of those in a pass to it."""
    torch.set_num_threads(1)
    on = corpus()
    methods: dict[str, tuple[Any, dict[str, Any]]] = {
        name: (known_method(name), {}) for name in ("cpsl", "pase", "concat")
    }
    methods |= {f"concat with {name}": (known_method("concat"), {name: rule}) for name, rule in RULES.items()}
    print(f"{on.name}: CPU per model and epoch; a pass of {', '.join(map(str, SEEDS))} models, as a share of it")
    for name, (method, changes) in methods.items():
        shares = []
        alone = 0.0
        for number in SEEDS:

            def make(number: int = number, method: str = method, changes: dict[str, Any] = changes) -> list[Training]:
                return trainings(method, on, number, **changes)

            one_by_one, in_one_pass = compared(make)
            alone = one_by_one / number
            shares.append(in_one_pass / one_by_one)
        print(f"{name:32s} {1e3 * alone:7.1f} ms  {'  '.join(f'{share:.2f}' for share in shares)}", flush=True)


if __name__ == "__main__":
    main()
