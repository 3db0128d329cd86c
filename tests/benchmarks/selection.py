"""By what a search should choose: one seed, the mean of several, folds, or the best few on seeds of their own.

`MSA_MOSI_STANDARD` names a corpus, `MSA_BANKS` a folder (`runs/banks` if left out) for the bank: real trainings of
random configurations, each on several seeds and folds; what was interrupted goes on. `MSA_CONFIGURATIONS` makes a
smaller one, and 0 trains nothing.

From the bank random searches of equal numbers of trainings are drawn. What each chooses is confirmed on seeds of its
configuration that no choice has seen. Intervals are percentiles over banks whose configurations are drawn anew from
this one, with replacement. There is no pruning here, and no sampler that learns from values.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msa_models import data
from msa_models.data.splitting import fold
from msa_models.metrics import Direction
from msa_models.seeding import derive, generator
from msa_models.step import NonFiniteLoss
from msa_models.training import Training
from orchestrator.plan.configure import configure, known_method
from orchestrator.plan.space import search_space
from orchestrator.run.sampling import suggest
from search_spaces.parts import Choices, Range

METHOD = "concat"
FIXED = {"training.epochs": 6, "training.batch_size": 128}
SPACE = {
    "training.learning_rate": Range(low=3e-4, high=1e-2, log=True),
    "training.weight_decay": Range(low=1e-4, high=1e-1, log=True),
    "encoder.width": Choices(choices=(32, 64)),
    "encoder.dropout": Range(low=0.1, high=0.6),
    "encoder.input_dropout": Range(low=0.0, high=0.6),
}
CONFIGURATIONS, SEEDS, FOLDS, CONFIRM = 150, 8, 4, 3
BUDGETS = (20, 40, 60)  # trainings
STUDIES, BANKS = 2_000, 200
FINITE_WORST = 10.0  # what a training that failed counts as


@dataclass(frozen=True, kw_only=True)
class Bank:
    """The best valid MAE of each training: seeds (C, SEEDS), folds (C, FOLDS), and the test MAE of the seeds."""

    seeds: np.ndarray
    folds: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a budget of trainings is spent: `each` on every configuration, then `again` on each of the `top` best."""

    name: str
    each: int = 1
    folds: bool = False
    top: int = 1
    again: int = 0

    def searched(self, budget: int) -> int:
        """Number of configurations."""
        return (budget - (self.top * self.again if self.top > 1 else 0)) // self.each


DESIGNS = (
    Design(name="one seed"),
    Design(name="search.seeds 2", each=2),
    Design(name="search.seeds 3", each=3),
    Design(name="search.folds 4", each=4, folds=True),
    *(
        Design(name=f"confirm.top {top}, {again} seeds", top=top, again=again)
        for top in (2, 3, 5)
        for again in (1, 2, 3, 4)
    ),
)


def main() -> None:
    """The confirmed MAE of each design, and its difference from one seed with an interval."""
    corpus = os.environ.get("MSA_MOSI_STANDARD")
    if not corpus:
        print("no corpus: set MSA_MOSI_STANDARD to its file")
        return
    folder = Path(os.environ.get("MSA_BANKS", "runs/banks"))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"selection-{Path(corpus).stem}.jsonl"
    build(corpus, file, int(os.environ.get("MSA_CONFIGURATIONS", CONFIGURATIONS)))
    show(read(file))


def build(corpus: str, file: Path, configurations: int) -> None:
    """Train what the bank lacks, a line for each training."""
    torch.set_num_threads(1)
    missing = list(_missing(file, configurations))
    if not missing:
        return
    whole = data.load(corpus).standardised()
    parts = {("seed", index): whole for index in range(SEEDS)}
    parts |= {("fold", index): fold(whole, index, FOLDS, seed=0) for index in range(FOLDS)}
    with file.open("a") as lines:
        for number, kind, index in missing:
            row = {
                "configuration": number,
                "kind": kind,
                "index": index,
                **_trained(parts[kind, index], number, kind, index),
            }
            lines.write(json.dumps(row) + "\n")
            lines.flush()


def read(file: Path) -> Bank:
    """The configurations that are whole."""
    kinds = {"seed": (SEEDS, "valid"), "fold": (FOLDS, "valid"), "test": (SEEDS, "test")}
    rows = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    size = 1 + max(row["configuration"] for row in rows)
    found = {kind: np.full((size, number), np.nan) for kind, (number, _) in kinds.items()}
    for row in rows:
        found[row["kind"]][row["configuration"], row["index"]] = row["valid"]
        if row["kind"] == "seed":
            found["test"][row["configuration"], row["index"]] = row["test"]
    there = ~np.isnan(np.hstack(list(found.values()))).any(axis=1)
    return Bank(seeds=found["seed"][there], folds=found["fold"][there], test=found["test"][there])


def show(bank: Bank) -> None:
    """A table for each budget."""
    rng = generator(0, "selection")
    between, within = bank.seeds.mean(axis=1).std(ddof=1), np.sqrt(bank.seeds.var(axis=1, ddof=1).mean())
    count = len(bank.seeds)
    print(f"{count} configurations; sd of valid MAE between them {between:.3f}, between seeds {within:.3f}")
    best = np.argsort(bank.seeds.mean(axis=1))[: max(2, count // 4)]
    between = bank.seeds[best].mean(axis=1).std(ddof=1)
    within = np.sqrt(bank.seeds[best].var(axis=1, ddof=1).mean())
    print(f"of the best quarter {between:.3f} and {within:.3f}")
    for budget in BUDGETS:
        designs = [each for each in DESIGNS if 1 < each.searched(budget) <= 0.8 * count]
        if DESIGNS[0] not in designs:
            continue
        found = simulated(bank, budget, designs, STUDIES, rng)
        drawn = np.empty((BANKS, len(designs)))
        for row in range(BANKS):
            chosen = rng.integers(count, size=count)
            other = Bank(seeds=bank.seeds[chosen], folds=bank.folds[chosen], test=bank.test[chosen])
            drawn[row] = simulated(other, budget, designs, STUDIES // 4, rng)[:, 0]
        apart = drawn - drawn[:, :1]
        print(f"\n{budget} trainings            chosen at  confirmed  test    confirmed, less that of one seed (95 %)")
        for index, design in enumerate(designs):
            low, high = np.percentile(apart[:, index], (2.5, 97.5))
            valid, test, at = found[index]
            apart_from_one = f"{valid - found[0, 0]:+.4f} [{low:+.4f}, {high:+.4f}]"
            print(f"{design.name:<23} {at:9.4f}  {valid:9.4f}  {test:.4f}  {apart_from_one}")


def simulated(bank: Bank, budget: int, designs: list[Design], studies: int, rng: np.random.Generator) -> np.ndarray:
    """(designs, 3) means over studies of the confirmed valid MAE, the test MAE, and the value that it was chosen by."""
    most = max(each.searched(budget) for each in designs)
    shape = (studies, len(bank.seeds))
    order = rng.random(shape).argsort(axis=1)[:, :most]  # (studies, configurations), each study in an order of its own
    columns = rng.random((studies, most, SEEDS)).argsort(axis=2)
    seeds, test = (np.take_along_axis(each[order], columns, axis=2) for each in (bank.seeds, bank.test))
    folds, study = bank.folds[order].mean(axis=2), np.arange(studies)
    found = []
    for design in designs:
        number = design.searched(budget)
        values = folds[:, :number] if design.folds else seeds[:, :number, : design.each].mean(axis=2)
        best = values.argsort(axis=1, kind="stable")[:, : design.top]
        chosen, at = best[:, 0], values[study, best[:, 0]]
        if design.top > 1:
            again = np.take_along_axis(seeds[..., 1 : 1 + design.again].mean(axis=2), best, axis=1)
            chosen, at = best[study, again.argmin(axis=1)], again.min(axis=1)
        confirmed = (each[study, chosen, -CONFIRM:].mean() for each in (seeds, test))
        found.append([*confirmed, at.mean()])
    return np.array(found)


def _missing(file: Path, configurations: int) -> Iterator[tuple[int, str, int]]:
    lines = file.read_text().splitlines() if file.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    there = {(row["configuration"], row["kind"], row["index"]) for row in rows}
    planned = [("seed", index) for index in range(SEEDS)] + [("fold", index) for index in range(FOLDS)]
    return (
        (number, kind, index)
        for number in range(configurations)
        for kind, index in planned
        if (number, kind, index) not in there
    )


def _trained(corpus: data.Corpus, number: int, kind: str, index: int) -> dict[str, Any]:
    """The best valid MAE, and the test MAE then where there is a test split."""
    method = known_method(METHOD)
    space = search_space(method.Config, FIXED, SPACE)
    seed = derive(0, "configuration", number) % 2**32
    params = suggest(space.distributions, [], direction=Direction.MINIMIZE, seed=seed, sampler="random")
    config = configure(method.Config, {**FIXED, **params})
    training = Training(method.build(config), corpus, seed=derive(0, kind, number, index) % 2**32)
    try:
        curve = [measurement["valid/mae"] for measurement in training]
        result = training.result()
    except (ValueError, NonFiniteLoss):
        return {"valid": FINITE_WORST, "test": FINITE_WORST}
    return {"valid": result.value, "test": result.metrics.get("test/mae"), "curve": curve, "params": params}
