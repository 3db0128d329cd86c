"""How far each balancing rule moves a training, under AdamW and SGD, by gradients and by updates; then what it costs.

On the utterance features of CMU-MOSI where `MSA_MOSI` names the file, else on synthetic ones of the same widths. Each
training is one of plain concatenation with a rule, next to one without on the same seed: `factor`, the mean that the
rule logs, and `column`, the mean `displacement` that is measured while training, both of text, audio and vision;
`moved`, how far each encoder ends from its initial weights over how far it ends without the rule; `predictions`, the
mean change of the test predictions after the last epoch. The change by another seed alone stands first. `MSA_EPOCHS`
and `MSA_SEEDS` are the lengths of trainings and how many are averaged.
"""

import dataclasses
import itertools
import os
import statistics
import time

import numpy as np
import torch

from msa_models.components.unimodal_heads import UnimodalHeads
from msa_models.config import OptimizerName, TrainingConfig
from msa_models.data.corpus import Corpus
from msa_models.discovery import method
from msa_models.evaluation import evaluate
from msa_models.representations import Modulate
from msa_models.seams import Component, GradientModulator
from msa_models.training import Training
from tests.benchmarks.step_cost import RULES, corpus

EPOCHS, SEEDS = int(os.environ.get("MSA_EPOCHS", "6")), int(os.environ.get("MSA_SEEDS", "3"))
RATES: dict[OptimizerName, float] = {"adamw": 1e-3, "sgd": 3e-2}
Weights = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Run:
    """What is left of a training."""

    moved: dict[str, float]  # modality -> distance of its encoder from the initial weights
    predictions: np.ndarray  # of the test split, after the last epoch
    means: dict[str, float]  # of what was measured in each epoch
    valid: float


def run(on: Corpus, optimizer: OptimizerName, component: Component | None, seed: int) -> Run:
    """Train concatenation, with a component if any."""
    found = method("concat")
    settings = TrainingConfig(epochs=EPOCHS, optimizer=optimizer, learning_rate=RATES[optimizer])
    brought = {} if component is None else {component.name: component}
    training = Training(found.build(found.Config(training=settings, **brought)), on, seed=seed)
    before = _encoders(training)
    measured = list(training)
    after = _encoders(training)
    moved = {name: (after[name] - before[name]).norm().item() for name in before}
    means = {name: statistics.mean(each[name] for each in measured if name in each) for name in measured[-1]}
    _, predictions = evaluate(training.network, on, "test", EPOCHS)
    return Run(moved, predictions, means, measured[-1]["valid/mae"])


def main() -> None:
    """Print one line for each rule, optimiser and mode."""
    torch.set_num_threads(1)
    on = corpus()
    print(f"{on.name}, concatenation, {EPOCHS} epochs, mean of {SEEDS} seeds; text / audio / vision")
    print(f"{'rule':28s} {'':9s} {'factor':>17s} {'column':>17s} {'moved':>17s} {'predictions':>11s} {'valid/mae':>9s}")
    for optimizer in RATES:
        plain = [run(on, optimizer, None, seed) for seed in range(SEEDS + 1)]
        change = statistics.mean(_change(one, other) for one, other in itertools.pairwise(plain))
        print(f"{optimizer + ', another seed':28s} {'':63s} {change:11.3f} {_valid(plain):9.3f}", flush=True)
        for name, rule in {**RULES, "uniform": UnimodalHeads(weight=3.0)}.items():
            modes: tuple[Modulate | str, ...] = ("gradient", "update") if hasattr(rule, "modulate") else ("n/a",)
            for mode in modes:
                changed = dataclasses.replace(rule, **({} if mode == "n/a" else {"modulate": mode}))
                runs = [run(on, optimizer, changed, seed) for seed in range(SEEDS)]
                _tell(f"{optimizer}, {name}", mode, changed, runs, plain[:SEEDS])
    _cost(on)


def _tell(name: str, mode: str, rule: Component, runs: list[Run], plain: list[Run]) -> None:
    modalities = list(plain[0].moved)
    balancing = isinstance(rule, GradientModulator)
    logged = [
        " / ".join(f"{statistics.mean(each.means[f'{rule.name}/{what}/{m}'] for each in runs):.2f}" for m in modalities)
        if balancing
        else "-"
        for what in ("factor", "displacement")
    ]
    pairs = list(zip(runs, plain, strict=True))
    moved = [statistics.mean(one.moved[m] / other.moved[m] for one, other in pairs) for m in modalities]
    change = statistics.mean(_change(one, other) for one, other in pairs)
    ratios = " / ".join(f"{each:.2f}" for each in moved)
    columns = " ".join(f"{each:>18s}" for each in (*logged, ratios))
    print(f"{name:28s} {mode:9s} {columns} {change:9.3f} {_valid(runs):9.3f}", flush=True)


def _cost(on: Corpus) -> None:
    """Epochs with and without measuring the displacement, in turns."""
    found = method("concat")
    config = found.Config(training=TrainingConfig(epochs=41), conflict_penalty=RULES["conflict_penalty"])
    trainings = [Training(found.build(config), on, seed=0) for _ in range(2)]
    trainings[1].step.displacement = None
    taken: list[list[float]] = [[], []]
    for _ in range(40):
        for training, times in zip(trainings, taken, strict=True):
            start = time.process_time()
            training.train_epoch()
            times.append(time.process_time() - start)
    ratios = [one / other for one, other in zip(*taken, strict=True)][1:]
    print(f"an epoch with the displacement measured takes {statistics.median(ratios):.3f} of its CPU time without")


def _encoders(training: Training) -> Weights:
    return {
        name: torch.cat([parameter.detach().flatten() for parameter in encoder.parameters()])
        for name, encoder in training.network.encoders.items()
    }


def _change(one: Run, other: Run) -> float:
    return float(np.abs(one.predictions - other.predictions).mean())


def _valid(runs: list[Run]) -> float:
    return statistics.mean(each.valid for each in runs)


if __name__ == "__main__":
    main()
