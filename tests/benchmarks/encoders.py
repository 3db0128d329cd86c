"""Which encoder of sequences, of which size: valid MAE of CP-SL on planted tasks, each choice beside the defaults.

`spread` is the synthetic corpus, whose evidence lies on all real steps: their mean knows almost everything. In the
others order matters: evidence stands on the step behind each marked one (`next`), or on the third behind it (`third`),
and what looks like evidence stands on all other steps.
Every pair has a corpus and a training seed of its own, which the defaults and a choice share; tests and intervals are
those of the ablations (`orchestrator.findings.statistics`), p-values adjusted after Holm over the choices of a task.
Rates are part of the choices, because what looks like a better size may be a better rate.

`python -m tests.benchmarks.encoders [TASK ...]` goes on with what `encoders.jsonl` in `MSA_BANKS` (`runs/banks` if left
out) lacks, and prints the tables. `MSA_PAIRS` is how many pairs there are.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msa_models import data
from msa_models.data.corpus import Corpus, Split
from msa_models.methods import cpsl
from msa_models.seeding import generator
from msa_models.training import Training
from orchestrator.findings.statistics import holm, paired
from orchestrator.plan.configure import configure

PAIRS, EPOCHS, STEPS = 6, 8, 24
SIZES = {"train": 240, "valid": 200, "test": 8}
STRENGTHS = {"text": 0.8, "audio": 0.5, "vision": 0.3}  # those of the synthetic corpus
WIDTHS = {"text": 32, "audio": 16, "vision": 20}
NUM_MARKS, NOISE = 2, 0.5
DEFAULTS = "defaults"
CHOICES: dict[str, dict[str, Any]] = {
    DEFAULTS: {},
    "kind conv": {"encoder.kind": "conv"},
    "kind lstm": {"encoder.kind": "lstm"},
    "width 32": {"encoder.width": 32},
    "width 128": {"encoder.width": 128},
    "layers 2": {"encoder.layers": 2},
    "heads 8": {"encoder.heads": 8},
    "dropout 0": {"encoder.dropout": 0.0},
    "dropout 0.4": {"encoder.dropout": 0.4},
    "input_dropout 0.2": {"encoder.input_dropout": 0.2},
    "pool 2": {"encoder.pool": 2},
    "pool 4": {"encoder.pool": 4},
    "learning_rate 3e-4": {"training.learning_rate": 3e-4},
    "learning_rate 3e-3": {"training.learning_rate": 3e-3},
    "conv, learning_rate 3e-3": {"encoder.kind": "conv", "training.learning_rate": 3e-3},
    "lstm, learning_rate 3e-3": {"encoder.kind": "lstm", "training.learning_rate": 3e-3},
}


def main() -> None:
    """Train what is missing, pair by pair, and print a table for each task."""
    tasks = sys.argv[1:] or list(TASKS)
    if unknown := set(tasks) - set(TASKS):
        sys.exit(f"no task {', '.join(sorted(unknown))}; known are {', '.join(TASKS)}")
    folder = Path(os.environ.get("MSA_BANKS", "runs/banks"))
    folder.mkdir(parents=True, exist_ok=True)
    file, pairs = folder / "encoders.jsonl", range(int(os.environ.get("MSA_PAIRS", PAIRS)))
    torch.set_num_threads(1)
    for task in tasks:
        for pair in pairs:
            _train(file, task, pair)
    for task in tasks:
        show(task, read(file, task))


def _train(file: Path, task: str, pair: int) -> None:
    known = read(file, task)
    missing = [choice for choice in CHOICES if pair not in known.get(choice, {})]
    if not missing:
        return
    corpus = TASKS[task](pair).standardised()
    with file.open("a") as lines:
        for choice in missing:
            began = time.process_time()
            changes = {"training.epochs": EPOCHS, **CHOICES[choice]}
            run = Training(cpsl.build(configure(cpsl.Config, changes)), corpus, seed=pair)
            error = min(measured["valid/mae"] for measured in run)
            cost = time.process_time() - began
            row = {"task": task, "choice": choice, "pair": pair, "mae": round(error, 5), "cpu_s": round(cost, 2)}
            print(json.dumps(row), file=lines, flush=True)


def read(file: Path, task: str) -> dict[str, dict[int, tuple[float, float]]]:
    """Choice -> pair -> (valid MAE, processor seconds)."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        row = json.loads(line)
        if row["task"] == task:
            found.setdefault(row["choice"], {})[row["pair"]] = row["mae"], row["cpu_s"]
    return found


def show(task: str, found: Mapping[str, Mapping[int, tuple[float, float]]]) -> None:
    """A row for each choice: its mean, its paired difference from the defaults, and what a training costs."""
    pairs = sorted(set.intersection(*(set(each) for each in found.values())))
    errors = {choice: np.array([found[choice][pair][0] for pair in pairs]) for choice in CHOICES if choice in found}
    others = [choice for choice in errors if choice != DEFAULTS]
    tests = paired(np.stack([errors[choice] - errors[DEFAULTS] for choice in others]), guards=False)
    adjusted = holm(tests.p)
    print(f"\n| {task}, {len(pairs)} pairs | valid MAE | difference (95 %) | p (Holm) | CPU s |\n|---|---|---|---|---|")
    for choice, values in errors.items():
        cost, said = statistics.mean(found[choice][pair][1] for pair in pairs), " | "
        if choice != DEFAULTS:
            at = others.index(choice)
            said = f"{tests.delta[at]:+.3f} ({tests.ci_low[at]:+.3f}, {tests.ci_high[at]:+.3f}) | {adjusted[at]:.3f}"
        print(f"| {choice} | {values.mean():.3f} | {said} | {cost:.1f} |")


def spread(seed: int) -> Corpus:
    """The synthetic corpus in sequences of up to STEPS steps."""
    sizes = {f"num_{split}": size for split, size in SIZES.items()}
    return data.load("synthetic", options={"seed": seed, "steps": STEPS, **sizes})


def marked(seed: int, gap: int) -> Corpus:
    """Evidence as in the synthetic corpus, `gap` steps behind each of NUM_MARKS marked ones of every modality."""
    splits = {split: _marked_split(seed, split, size, gap) for split, size in SIZES.items()}
    return Corpus(name="marked", task="regression", scale="mosi", classes=(), splits=splits)


def _marked_split(seed: int, split: str, size: int, gap: int) -> Split:
    draws = generator(seed, "marked", split)
    latent, places = draws.standard_normal(size), np.arange(STEPS)
    inputs, masks = {}, {}
    for modality, width in WIDTHS.items():
        mark, direction = generator(seed, "directions", modality).standard_normal((2, width))
        strength = STRENGTHS[modality]
        evidence = strength * latent + np.sqrt(1 - strength**2) * draws.standard_normal(size)
        lengths = draws.integers(STEPS // 2, STEPS + 1, size)
        slots = np.arange(STEPS // (gap + 2))  # a mark on one of the first two steps of a slot, its evidence in it too
        beyond = (gap + 2) * (slots + 1) > lengths[:, None]
        chosen = np.argsort(draws.random((size, len(slots))) + beyond, axis=1)[:, :NUM_MARKS]
        marks = (gap + 2) * chosen + draws.integers(0, 2, (size, NUM_MARKS))
        is_marked = (places == marks[..., None]).any(1)
        follows = (places == marks[..., None] + gap).any(1)
        amounts = np.where(follows, evidence[:, None], draws.standard_normal((size, STEPS)))
        values = NOISE * draws.standard_normal((size, STEPS, width)) + is_marked[..., None] * mark
        values += np.where(is_marked, 0.0, amounts)[..., None] * direction
        masks[modality] = places < lengths[:, None]
        inputs[modality] = np.where(masks[modality][..., None], values, 0.0).astype(np.float32)
    targets = np.clip(np.round(latent * 1.5 * 5) / 5, -3, 3).astype(np.float32)
    return Split(inputs=inputs, masks=masks, targets=targets, ids=np.arange(size).astype(str))


TASKS: dict[str, Callable[[int], Corpus]] = {
    "spread": spread,
    "next": partial(marked, gap=1),
    "third": partial(marked, gap=3),
}

if __name__ == "__main__":
    main()
