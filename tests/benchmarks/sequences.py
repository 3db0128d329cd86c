"""Long sequences: processor time of a training step and peak memory of an evaluation, at the lengths of unaligned MOSI.

Random features of MOSI's widths, whose lengths are spread as utterances are: most are much shorter than the longest.
CP-SL and PaSE with the encoder's defaults and the settings of `ARMS`, beside a plain loop over the same encoders and a
linear head, which pads to the corpus's own length and is without any loss but L1. Each figure has a process of its own
on one thread; steps are of batch 32, one to warm up and some that count. `learning` is what an arm reaches on the
planted truth of the synthetic corpus, in sequences long enough that all settings act.

`epochs`: an epoch of each method and its validation beside a hand-written loop over the network of `concat`, on the
same batches, by turns in one process; batches of that loop are as long as the corpus is, or as the longest of them.

`python -m tests.benchmarks.sequences [steps|evaluation|learning|epochs] [NAME ...]` prints some of it.
"""

import multiprocessing
import resource
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch

from msa_models import data, seeding
from msa_models.data.corpus import Corpus, Split
from msa_models.epoch import rows_of_steps
from msa_models.evaluation import predict
from msa_models.methods import concat, cpsl, pase
from msa_models.training import Training
from orchestrator.plan.configure import configure

SIZE, WARM, COUNTED = 32, 1, 3
WIDTHS = {"text": 768, "audio": 5, "vision": 20}
LENGTHS = {"aligned": {"text": 50, "audio": 50, "vision": 50}, "unaligned": {"text": 50, "audio": 375, "vision": 500}}
NUM_EVALUATED = 686  # MOSI's test split
METHODS = {"cpsl": cpsl, "pase": pase}
PLAIN = {"plain loop": False, "plain loop, cut": True}
ARMS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "weights dropped": {"encoder.attention_dropout": "weights"},
    "buckets": {"training.buckets": 8},
    "pool 5": {"encoder.audio.pool": 5, "encoder.vision.pool": 5},
    "conv": {"encoder.kind": "conv"},
    "conv, pool 5": {"encoder.kind": "conv", "encoder.audio.pool": 5, "encoder.vision.pool": 5},
}
PLANTED = {"steps": 150, "num_train": 320, "num_valid": 200, "num_test": 8}
EPOCHS, SEEDS = 8, range(3)
TURNS, EPOCH_BATCHES, NUM_VALID, PLAIN_VALID = 3, 8, 64, 32  # of an epoch beside a plain one


def corpus(layout: str, num_train: int, num_valid: int = 8) -> Corpus:
    """Standard normal features; lengths are lognormal, those of audio and vision go together."""
    random, lengths = np.random.default_rng(0), LENGTHS[layout]
    sizes = {"train": num_train, "valid": num_valid, "test": 8}
    splits = {name: _split(random, size, lengths) for name, size in sizes.items()}
    return Corpus(name=layout, task="regression", scale="mosi", classes=(), splits=splits)


def _split(random: np.random.Generator, size: int, lengths: dict[str, int]) -> Split:
    duration = 0.35 * random.lognormal(0.0, 0.6, size)  # of the longest
    inputs, masks = {}, {}
    for name, longest in lengths.items():
        share = duration * random.lognormal(0.0, 0.1, size)
        real = np.clip(share * longest, 1, longest).astype(int)
        masks[name] = np.arange(longest) < real[:, None]
        inputs[name] = random.standard_normal((size, longest, WIDTHS[name]), np.float32)
        inputs[name][~masks[name]] = 0.0
    targets = random.uniform(-3, 3, size).astype(np.float32)
    return Split(inputs=inputs, masks=masks, targets=targets, ids=np.arange(size).astype(str))


def training(method: Any, on: Corpus, changes: dict[str, Any], seed: int = 0) -> Training:
    """A training by the method's defaults but for the changes."""
    return Training(method.build(configure(method.Config, changes)), on, seed=seed)


def step_cost(method: str, layout: str, changes: dict[str, Any]) -> tuple[float, float]:
    """Processor seconds of a step, the mean over an epoch whose order is that of a training; peak GB of the process."""
    torch.set_num_threads(1)
    on = corpus(layout, SIZE * (WARM + COUNTED) * (2 if layout == "aligned" else 1))
    if method == "plain":
        return _plain(on), _peak()
    run = training(METHODS[method], on, {"training.epochs": 1, "training.batch_size": SIZE, **changes})
    taken: list[float] = []
    take = run.step.take

    def timed(*arguments: Any, **named: Any) -> Any:
        taken.append(-time.process_time())
        found = take(*arguments, **named)
        taken[-1] += time.process_time()
        return found

    run.step.take = timed  # type: ignore[method-assign]
    run.train_epoch()
    return statistics.mean(taken[WARM:]), _peak()


def _plain(on: Corpus) -> float:
    """The same encoders, a linear head, one backward pass and a step of AdamW."""
    network = training(concat, on, {}).network.train()
    head = torch.nn.Linear(3 * 64, 1)
    optimizer = torch.optim.AdamW([*network.encoders.parameters(), *head.parameters()])
    order, taken = seeding.generator(0, "order", 0).permutation(len(on.splits["train"])), []
    split = on.splits["train"]
    for start in range(0, len(order), SIZE):
        rows = order[start : start + SIZE]
        inputs = {name: torch.from_numpy(values[rows]) for name, values in split.inputs.items()}
        masks = {name: torch.from_numpy(values[rows]) for name, values in split.masks.items()}
        began = time.process_time()
        found = [encoder(inputs[name], masks[name]).pooled for name, encoder in network.encoders.items()]
        loss = (head(torch.cat(found, -1)).squeeze(-1) - torch.from_numpy(split.targets[rows])).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        taken.append(time.process_time() - began)
    return statistics.mean(taken[WARM:])


def evaluation_cost(method: str, layout: str, changes: dict[str, Any]) -> tuple[float, float]:
    """Processor seconds of an evaluation of 686 samples, and peak GB of the process, 0.14 of which are features."""
    torch.set_num_threads(1)
    on = corpus(layout, 8, NUM_EVALUATED)
    network = training(METHODS[method], on, changes).network
    began = time.process_time()
    predict(network, on.splits["valid"])
    return time.process_time() - began, _peak()


def epoch_costs(layout: str) -> dict[str, float]:
    """Processor seconds of an epoch and its validation, medians over turns of which the first does not count."""
    torch.set_num_threads(1)
    on, changes = corpus(layout, SIZE * EPOCH_BATCHES, NUM_VALID), {"training.batch_size": SIZE}
    runs = {name: training(method, on, changes) for name, method in ({"concat": concat} | METHODS).items()}
    plain = {name: training(concat, on, changes) for name in PLAIN}  # for its network and optimiser
    taken: dict[str, list[float]] = {name: [] for name in (*plain, *runs)}
    for turn in range(1 + TURNS):
        for name, cost in taken.items():
            began = time.process_time()
            if name in runs:
                runs[name].train_epoch()
            else:
                _plain_epoch(plain[name], on, turn + 1, cut=PLAIN[name])
            cost.append(time.process_time() - began)
    return {name: statistics.median(cost[1:]) for name, cost in taken.items()}


def _plain_epoch(run: Training, on: Corpus, epoch: int, *, cut: bool) -> None:
    """What one writes by hand, with the order of a training; the validation is of batches as well."""
    network, optimizer = run.network.train(), run.step.optimizer
    split = on.splits["train"]
    for rows in rows_of_steps(split, network.spec.training, 0, epoch):
        loss = (_plain_forward(network, split, rows, cut) - torch.from_numpy(split.targets[rows])).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()
    with torch.no_grad():
        for start in range(0, NUM_VALID, PLAIN_VALID):
            _plain_forward(network, on.splits["valid"], np.arange(start, start + PLAIN_VALID), cut)


def _plain_forward(network: Any, split: Split, rows: np.ndarray, cut: bool) -> torch.Tensor:
    found = []
    for name, encoder in network.encoders.items():
        mask = split.masks[name][rows]
        longest = int(mask.sum(1).max()) if cut else mask.shape[1]
        inputs = torch.from_numpy(split.inputs[name][rows, :longest])
        found.append(encoder(inputs, torch.from_numpy(mask[:, :longest])).pooled)
    return network.head(torch.cat(found, -1)).squeeze(-1)


def learned(changes: dict[str, Any]) -> list[float]:
    """The best valid MAE of CP-SL on planted sequences, for each seed."""
    torch.set_num_threads(1)
    on = data.load("synthetic", options=PLANTED).standardised()
    found = []
    for seed in SEEDS:
        run = training(cpsl, on, {"training.epochs": EPOCHS, **changes}, seed)
        found.append(min(measured["valid/mae"] for measured in run))
    return found


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _apart(function: Any, *arguments: Any) -> tuple[Any, float]:
    """What a function returns in a process of its own, and its processor seconds."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed, (function, arguments))


def _timed(function: Any, arguments: tuple[Any, ...]) -> tuple[Any, float]:
    began = time.process_time()
    return function(*arguments), time.process_time() - began


def main(what: str = "", *names: str) -> None:
    """Print what is asked for, all of it unless anything is."""
    arms = {name: changes for name, changes in ARMS.items() if not names or name in names}
    if what in ("", "steps"):
        print(f"{'training step':32}CPU s      peak GB of the process")
        for layout in LENGTHS:
            if not names:
                (cost, peak), _ = _apart(step_cost, "plain", layout, {})
                print(f"{layout + ' plain loop':32}{cost:5.3f}      {peak:5.2f}", flush=True)
            for method in METHODS:
                for name, changes in arms.items():
                    (cost, peak), _ = _apart(step_cost, method, layout, changes)
                    print(f"{f'{layout} {method} {name}':32}{cost:5.3f}      {peak:5.2f}", flush=True)
    if what in ("", "evaluation"):
        print(f"{'evaluation of 686 samples':32}CPU s      peak GB of the process")
        for layout in LENGTHS:
            for method in METHODS:
                for name, changes in arms.items():
                    (cost, peak), _ = _apart(evaluation_cost, method, layout, changes)
                    print(f"{f'{layout} {method} {name}':32}{cost:5.2f}      {peak:5.2f}", flush=True)
    if what in ("", "epochs"):
        print(f"{f'epoch of {EPOCH_BATCHES} batches':32}CPU s      of a plain loop, of one that cuts")
        for layout in LENGTHS:
            costs, _ = _apart(epoch_costs, layout)
            full, short = (costs[name] for name in PLAIN)
            for name, cost in costs.items():
                print(f"{f'{layout} {name}':32}{cost:6.3f}     {cost / full:5.2f}  {cost / short:5.2f}", flush=True)
    if what in ("", "learning"):
        print(f"{'planted sequences, CP-SL':32}valid MAE  CPU s of {len(SEEDS)} trainings   MAE of each")
        for name, changes in arms.items():
            found, cost = _apart(learned, changes)
            each = ", ".join(f"{value:.3f}" for value in found)
            print(f"{name:32}{statistics.mean(found):5.3f}      {cost:5.1f}   {each}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
