"""Trainings in one pass against the same one by one: CPU seconds of whole epochs, evaluation included, on one thread.

They differ in their seeds, or also in rates, dropout and numbers of their components, as trials of a search do.

On the utterance features of CMU-MOSI where `MSA_MOSI` names the file, else on synthetic ones of the same widths. Both
take turns, an epoch each, so that they see the same machine; the ratio is between medians.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from msa_models import fused
from msa_models.data.corpus import Corpus
from msa_models.training import Training
from orchestrator.plan.configure import configure, known_method
from tests.benchmarks.step_cost import RULES, corpus

SEEDS = (2, 5, 8)
EPOCHS = 6


NUMBERS: dict[str, dict[str, tuple[float, float]]] = {
    "cpsl": {
        **{"training.learning_rate": (1e-4, 3e-3), "training.weight_decay": (1e-4, 0.1), "encoder.dropout": (0.1, 0.6)},
        **{"conflict_penalty.threshold": (1.1, 4.0), "conflict_penalty.alpha": (0.0, 1.0)},
        **{"conflict_penalty.rho": (0.3, 1.0), "statistical_loss.weight": (1e-3, 1.0)},
    },
    "pase": {
        **{"training.learning_rate": (1e-4, 3e-3), "training.weight_decay": (1e-4, 0.1), "encoder.dropout": (0.1, 0.6)},
        **{"transport.epsilon": (1e-2, 1.0), "prototypes.tau": (0.03, 1.0), "transport_alignment.weight": (1e-3, 1.0)},
    },
}


def differing(name: str, on: Corpus, number: int) -> list[Training]:
    """So many, whose numbers lie evenly in their ranges."""
    method, made = known_method(name), []
    for index in range(number):
        share = index / (number - 1)
        numbers = {path: low + share * (high - low) for path, (low, high) in NUMBERS[name].items()}
        late = {"dual_phase": None} if name == "pase" else {}
        config = configure(method.Config, {"training.epochs": EPOCHS, **late, **numbers})
        made.append(Training(method.build(config), on, seed=index))
    return made


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
    makers: dict[str, Callable[[int], list[Training]]] = {
        name: partial(trainings, name, on) for name in ("cpsl", "pase", "concat")
    }
    makers |= {f"{name}, numbers differ": partial(differing, name, on) for name in NUMBERS}
    makers |= {f"concat with {name}": partial(trainings, "concat", on, **{name: rule}) for name, rule in RULES.items()}
    print(f"{on.name}: CPU per model and epoch; a pass of {', '.join(map(str, SEEDS))} models, as a share of it")
    for name, make in makers.items():
        found = [(number, *compared(partial(make, number))) for number in SEEDS]
        number, alone, _ = found[-1]
        shares = "  ".join(f"{in_one_pass / one_by_one:.2f}" for _, one_by_one, in_one_pass in found)
        print(f"{name:32s} {1e3 * alone / number:7.1f} ms  {shares}", flush=True)


if __name__ == "__main__":
    main()
