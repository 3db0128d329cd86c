"""What a search is worth after confirmation: ours, random search, a pool of processes, and other settings of ours.

`MSA_MOSI_STANDARD` names a corpus (left out: a synthetic one), `MSA_RESULTS` a file of results (one line each; what is
there is not run again), `MSA_ARMS` some of the arms. The design is fixed here, before any of it is run: at 60 and at
180 s of wall time, start-up included, ten repetitions of each arm of `_search_arms`, paired by their search seeds; the
configuration that an arm chooses by valid is trained on five further seeds, the same for all arms of a repetition, and
its mean valid MAE counts. All searches come first: they want idle cores, which what is trained after them does not. It
takes about nine hours on two cores; `MSA_SECONDS=30 MSA_REPETITIONS=2` shows that it works.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy import stats

from orchestrator.findings.statistics import paired
from tests.benchmarks._search_arms import ARMS, SLOTS, prepared

SECONDS, REPETITIONS, SEEDS = (60, 180), 10, 5
POWER, ALPHA = 0.8, 0.05


def main() -> None:
    """Run what is missing, arm by arm within a repetition, and show what there is."""
    seconds = [int(each) for each in os.environ.get("MSA_SECONDS", ",".join(map(str, SECONDS))).split(",")]
    repetitions = int(os.environ.get("MSA_REPETITIONS", REPETITIONS))
    arms = os.environ.get("MSA_ARMS", ",".join(ARMS)).split(",")
    corpus = os.environ.get("MSA_MOSI_STANDARD", "synthetic")
    file = Path(os.environ.get("MSA_RESULTS", "runs/search_quality.jsonl"))
    file.parent.mkdir(parents=True, exist_ok=True)
    wanted = [
        (arm, each, repetition)
        for repetition in range(repetitions)
        for each in seconds
        for arm in arms[repetition % len(arms) :] + arms[: repetition % len(arms)]  # none is always the first
    ]
    for key in wanted:
        if key not in _read(file):
            _write(file, dict(zip(("arm", "seconds", "repetition"), key, strict=True)) | _searched(corpus, *key))
    for key in wanted:
        row = _read(file)[key]
        if row["config"] is not None and "confirmed" not in row:
            _write(file, row | {"confirmed": _confirmed(corpus, row["repetition"], row["config"])})
    for each in seconds:
        show(each, repetitions, _read(file))


def show(seconds: int, repetitions: int, found: dict[tuple[str, int, int], dict[str, Any]]) -> None:
    """Each arm beside the default, over the repetitions that have both."""
    print(f"\n{seconds} s of wall time on {SLOTS} slots, {repetitions} repetitions, valid MAE")
    print(f"{'arm':<10} trials   wall s  chosen at  confirmed  less the default's (95 %)         found at power 0.8")
    for arm in ARMS:
        rows = [found.get((arm, seconds, each)) for each in range(repetitions)]
        usual = [found.get(("default", seconds, each)) for each in range(repetitions)]
        both = [(row, other) for row, other in zip(rows, usual, strict=True) if row and other]
        both = [(row, other) for row, other in both if "confirmed" in row and "confirmed" in other]
        if not both:
            print(f"{arm:<10} chose nothing")
            continue
        mine = [row for row, _ in both]
        means = [fmean(row[name] for row in mine) for name in ("trials", "wall_s", "value", "confirmed")]
        line = f"{arm:<10} {means[0]:6.1f}  {means[1]:7.1f}  {means[2]:9.4f}  {means[3]:9.4f}"
        if arm != "default" and len(both) > 1:
            deltas = np.array([row["confirmed"] - other["confirmed"] for row, other in both])
            test = paired(deltas[None])
            line += f"  {test.delta[0]:+.4f} [{test.ci_low[0]:+.4f}, {test.ci_high[0]:+.4f}], n = {len(deltas):<2}"
            line += f"  {smallest(test.sd[0], len(deltas)):.4f}"
        print(line)


def smallest(sd: float, number: int) -> float:
    """The smallest difference that a paired t test finds with power 0.8, by the noncentral t distribution."""
    freedom, limit = number - 1, stats.t.ppf(1 - ALPHA / 2, number - 1)
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if stats.nct.sf(limit, freedom, middle) > POWER else (middle, high)
    return high * sd / number**0.5


def _searched(corpus: str, arm: str, seconds: int, repetition: int) -> dict[str, Any]:
    """What a search in a process of its own has found."""
    command = [sys.executable, "-m", "tests.benchmarks._search_arms", arm, corpus, str(repetition), str(seconds)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(said.splitlines()[-1])


def _confirmed(corpus: str, repetition: int, config: dict[str, Any]) -> float:
    """The mean over fresh seeds."""
    jobs = [(corpus, repetition, config, seed) for seed in range(SEEDS)]
    with ProcessPoolExecutor(SLOTS, mp_context=get_context("spawn")) as pool:
        return fmean(pool.map(_trained, jobs))


def _trained(job: tuple[str, int, dict[str, Any], int]) -> float:
    """The best valid MAE of a training on a seed that no search has seen."""
    from dataclasses import replace

    from orchestrator.run.study_state import StudyState
    from orchestrator.run.workload import train

    corpus, repetition, config, seed = job
    wanted = prepared(corpus, repetition)
    (study,) = wanted.plan.studies
    like = StudyState(study, code_fingerprint="", cells={}).next()
    assert like is not None
    fresh = study.search.seed + 500 + seed  # the pool's trials count on from the search's seed, and come to fewer
    run = train(replace(like, seed=fresh, config=config), wanted.corpora[study.data_fingerprint].without_test())
    while not run.done:
        run.train_epoch()
    return run.result().value


def _read(file: Path) -> dict[tuple[str, int, int], dict[str, Any]]:
    lines = file.read_text().splitlines() if file.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return {(row["arm"], row["seconds"], row["repetition"]): row for row in rows}


def _write(file: Path, row: dict[str, Any]) -> None:
    with file.open("a") as lines:
        lines.write(json.dumps(row) + "\n")
