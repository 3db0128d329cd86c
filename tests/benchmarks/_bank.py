"""A bank: one method trained at many random configurations, with many seeds at those that a search may choose.

Studies are resampled from it by `_designs`. A draw is one training of a configuration with a seed of its own, so draws
differ by initial weights and order. The first `SEARCH` draws are what searches see; the configurations with the best of
these have `CONFIRM` more, those next to them `SOME`, which only confirms see. Chunks of trainings are Parquet files in
a folder; what was interrupted goes on with what is missing. Space, random sampler and training are the product's own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from msa_models.data import Corpus
from msa_models.metrics import Direction
from msa_models.seeding import derive
from msa_models.training import Training
from orchestrator.plan.configure import configure, known_method
from orchestrator.plan.space import search_space
from orchestrator.run.sampling import suggest
from search_spaces.parts import Choices, Range

METHOD, METRIC = "concat", "mae"
FIXED = {"training.epochs": 4, "training.batch_size": 128}  # about 0.3 s each
SPACE = {
    "training.learning_rate": Range(low=1e-3, high=2e-2, log=True),
    "training.weight_decay": Range(low=1e-4, high=1e-1, log=True),
    "encoder.width": Choices(choices=(16, 32)),
    "encoder.dropout": Range(low=0.1, high=0.6),
}
CONFIGURATIONS, SEARCH = 300, 2
DEEP, CONFIRM = 90, 24
NEXT, SOME = 90, 3
CHUNK = 50  # trainings that a kill costs at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bank:
    """Metrics of every draw, (configurations, draws), NaN where there is none; the lower, the better."""

    search: np.ndarray  # valid, (C, SEARCH)
    valid: np.ndarray  # of the confirms, (C, CONFIRM)
    test: np.ndarray


def build(corpus: Corpus, folder: Path) -> Bank:
    """Train what the bank in the folder lacks, and read it."""
    torch.set_num_threads(1)
    _describe(corpus, folder)
    standardised = corpus.standardised()
    for phase in (_searches, _confirms):
        missing = _missing(phase(rows(folder)), folder)
        for first in range(0, len(missing), CHUNK):
            _write(folder, [_train(standardised, number, draw) for number, draw in missing[first : first + CHUNK]])
    return read(folder)


def read(folder: Path) -> Bank:
    """The bank as it stands, also one that is not finished."""
    trained = rows(folder)
    shape = CONFIGURATIONS, SEARCH + CONFIRM
    valid, test = np.full(shape, np.nan), np.full(shape, np.nan)
    place = _places(trained)
    valid[place], test[place] = trained[f"valid/{METRIC}"], trained[f"test/{METRIC}"]
    none = np.isnan(valid[:, SEARCH:]).all(
        axis=1
    )  # hardly ever chosen; what searches saw of it stands for its confirms
    for values in (valid, test):
        values[none, SEARCH : 2 * SEARCH] = values[none, :SEARCH]
        values[:, SEARCH:] = np.take_along_axis(
            values[:, SEARCH:], np.argsort(np.isnan(values[:, SEARCH:]), axis=1, kind="stable"), axis=1
        )
    return Bank(search=valid[:, :SEARCH], valid=valid[:, SEARCH:], test=test[:, SEARCH:])


def rows(folder: Path) -> pd.DataFrame:
    """Of every training its configuration and draw, parameters, valid curve, duration and metrics at the best epoch."""
    parts = [pd.read_parquet(file) for file in sorted(folder.glob("part-*.parquet"))]
    empty = pd.DataFrame({name: [] for name in ("configuration", "draw", f"valid/{METRIC}")})
    return pd.concat(parts, ignore_index=True) if parts else empty.astype({"configuration": int, "draw": int})


def seconds(folder: Path) -> tuple[int, float]:
    """How many trainings there are, and how long they took together."""
    trained = rows(folder)
    return len(trained), float(trained["duration_s"].to_numpy().sum())


def described(bank: Bank) -> str:
    """How many draws there are, and how far apart configurations with many of them and their draws are."""
    there = (~np.isnan(bank.valid)).sum(axis=1)
    many = bank.valid[there >= 8], bank.test[there >= 8]
    if not len(many[0]):
        return "no configuration has eight draws yet"
    spread = [(np.nanmean(each, axis=1).std(ddof=1), np.nanmean(np.nanstd(each, axis=1, ddof=1))) for each in many]
    words = [f"{between:.3f} / {within:.3f}" for between, within in spread]
    return (
        f"{len(many[0])} configurations have 8 to {there.max()} draws; sd of {METRIC} between / within them "
        f"{words[0]} on valid, {words[1]} on test"
    )


def _searches(_: pd.DataFrame) -> list[tuple[int, int]]:
    return [(number, draw) for draw in range(SEARCH) for number in range(CONFIGURATIONS)]


def _confirms(trained: pd.DataFrame) -> list[tuple[int, int]]:
    """Draw by draw, so that a bank that is not finished has as many of each."""
    seen = np.full((CONFIGURATIONS, SEARCH), np.inf)
    numbers, draws = _places(trained)
    searched = draws < SEARCH
    values = np.nan_to_num(trained[f"valid/{METRIC}"].to_numpy(), nan=np.inf)
    seen[numbers[searched], draws[searched]] = values[searched]
    best = np.argsort(seen.min(axis=1), kind="stable")
    planned = [(draw, sorted(best[: DEEP + NEXT if draw < SOME else DEEP].tolist())) for draw in range(CONFIRM)]
    return [(each, SEARCH + draw) for draw, some in planned for each in some]


def _missing(planned: list[tuple[int, int]], folder: Path) -> list[tuple[int, int]]:
    there = set(zip(*(each.tolist() for each in _places(rows(folder))), strict=True))
    return [each for each in planned if each not in there]


def _places(trained: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Configuration and draw of each training."""
    return trained["configuration"].to_numpy(), trained["draw"].to_numpy()


def _train(corpus: Corpus, number: int, draw: int) -> dict[str, Any]:
    """One row; a training that fails is a row without metrics."""
    method = known_method(METHOD)
    space = search_space(method.Config, FIXED, SPACE)
    seed = derive(0, "configuration", number) % 2**32
    params = suggest(space.distributions, [], direction=Direction.MINIMIZE, seed=seed, sampler="random")
    started = time.process_time()
    training = Training(
        method.build(configure(method.Config, {**FIXED, **params})),
        corpus,
        seed=derive(0, "draw", number, draw) % 2**32,
    )
    curve = [measurement[f"valid/{METRIC}"] for measurement in training]
    result = training.result()
    return {
        "configuration": number,
        "draw": draw,
        "params": json.dumps(params),
        "best_epoch": result.best_epoch,
        "curve": curve,
        "duration_s": time.process_time() - started,
        **result.metrics,
    }


def _describe(corpus: Corpus, folder: Path) -> None:
    """A folder holds one bank; ValueError for that of another corpus, space or size."""
    space = {path: entry.model_dump() for path, entry in SPACE.items()}
    ours = json.dumps({"corpus": corpus.name, "method": METHOD, "fixed": FIXED, "space": space}, indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "bank.json"
    if file.exists() and file.read_text() != ours:
        raise ValueError(f"{folder} has the bank of another corpus or space, see {file}; name another folder")
    file.write_text(ours)


def _write(folder: Path, trained: list[dict[str, Any]]) -> None:
    """A whole file or none."""
    number = len(list(folder.glob("part-*.parquet")))
    file = folder / f"part-{number:05d}.parquet"
    temporary = file.with_name(f".{file.name}")
    pd.DataFrame(trained).to_parquet(temporary)
    os.replace(temporary, file)
