"""Storages of ablations as a driver leaves them, from the value of each cell with each seed; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.store import Store
from orchestrator.store.record import Record

Value = Callable[[str, str, str, int], float]  # variant, dataset, "valid/mae", seed
SEEDS = (1, 2, 3, 4, 5)
METRICS = ("mae", "corr")


def full_contrasts(variants: Iterable[str], datasets: Sequence[str] = ("mosi",)) -> list[dict[str, Any]]:
    """Every variant minus the full method, on each dataset."""
    names = [name for name in variants if name != "full"]
    return [contrast("full", name, {name: 1.0, "full": -1.0}, dataset) for dataset in datasets for name in names]


def contrast(comparison: str, name: str, weights: Mapping[str, float], dataset: str = "mosi") -> dict[str, Any]:
    return {"comparison": comparison, "name": name, "dataset": dataset, "weights": dict(weights)}


def study(name: str, dataset: str = "mosi", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "method": "cpsl",
        "dataset": dataset,
        "data_fingerprint": f"print of {dataset}",
        "modalities": ["text", "audio"],
        "config": {"encoder": {"width": 32}, "variant": name},
        "space": {},
        "leader": None,
        "planned": {"search": 0, "confirm": len(SEEDS)},
        **changes,
    }


def record(
    variants: Sequence[str],
    *,
    datasets: Sequence[str] = ("mosi",),
    contrasts: Sequence[Mapping[str, Any]] | None = None,
    objective: str = "valid/mae",
    metrics: Sequence[str] = METRICS,
    **ablation: Any,
) -> dict[str, Any]:
    """What a driver writes; the id of a study is its dataset and variant."""
    studies = {f"{dataset}-{name}": study(name, dataset) for dataset in datasets for name in variants}
    cells = [
        {
            "variant": each["name"],
            "dataset": each["dataset"],
            "modalities": "text+audio",
            "setting": "",
            "study_ids": [study_id],
            "designs": ["leave_one_out"],
            "removed": [] if each["name"] == "full" else [each["name"].removeprefix("without ")],
        }
        for study_id, each in studies.items()
    ]
    ablation = {
        "tuning": "none",
        "unit": "seeds",
        "units": len(SEEDS),
        "alpha": 0.05,
        "seeds": list(SEEDS),
        "race": None,
        "cells": cells,
        "contrasts": list(full_contrasts(variants, datasets) if contrasts is None else contrasts),
        **ablation,
    }
    for each in studies.values():
        each.setdefault("seeds", list(ablation["seeds"]))
    return {
        "experiment": {"method": "cpsl", "objective": {"metric": objective}},
        "identity": sorted(studies),
        "metrics": list(metrics),
        "corpora": {dataset: {"scale": "mosi"} for dataset in datasets},
        "direction": "minimize" if objective.endswith("mae") else "maximize",
        "studies": studies,
        "ablation": ablation,
    }


def with_record(store: Store, **changes: Any) -> Store:
    """The same storage, of which this is said otherwise; nothing is written."""
    return replace(store, record=Record.of({**store.record.plain(), **changes}))


def row(record: Mapping[str, Any], study_id: str, seed: int, value: Value | None = None, **changes: Any) -> dict:
    """A confirm trial of a study that was not tuned."""
    mine = record["studies"][study_id]
    names = [f"{split}/{metric}" for split in ("valid", "test") for metric in record["metrics"]]
    measured = {name: value(mine["name"], mine["dataset"], name, seed) if value else 0.5 for name in names}
    return {
        "trial_id": f"{study_id.replace(' ', '_')}-{seed}",
        "study_id": study_id,
        "method": mine["method"],
        "dataset": mine["dataset"],
        "variant": mine["name"],
        "modalities": "+".join(mine["modalities"]),
        "phase": "confirm",
        "seed": seed,
        "number": seed - 1,
        "state": "COMPLETE",
        "objective": "valid/mae",
        "value": 0.5,
        "intermediate_values": {},
        "params": {},
        "config": mine["config"],
        "finished_at": datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=seed),
        "data_fingerprint": mine["data_fingerprint"],
        **measured,
        **changes,
    }


def storage(folder: Path, record: Mapping[str, Any], value: Value, *, seeds: Sequence[int] = SEEDS) -> Store:
    """All cells trained on all seeds; where `value` is None, that trial is missing."""
    store = Store.create(folder, record)
    for study_id in record["studies"]:
        for seed in seeds:
            trial = row(record, study_id, seed, value)
            if None not in trial.values():
                store.finish(trial, [])
    return store


def table(values: Mapping[str, Sequence[float | None]], lost: float = 0.0) -> Value:
    """Each variant's mae by seed, 1, 2, ...; on test the difference from full shrinks by the share `lost`."""

    def value(variant: str, dataset: str, name: str, seed: int) -> Any:
        own, full = values[variant][seed - 1], values["full"][seed - 1]
        if own is None or full is None:
            return own
        mae = own if name.startswith("valid") else full + (own - full) * (1 - lost) + 0.3
        return mae if name.endswith("mae") else 1.0 - mae

    return value


def rows(grid: Any, **where: Any) -> list[dict[str, Any]]:
    """The rows of a grid with these values."""
    return [each for each in grid.to_pylist() if all(each[name] == wanted for name, wanted in where.items())]


def noisy(effects: Mapping[str, float], *, seed: int = 0, num_seeds: int = 5, sd: float = 0.01) -> dict[str, Any]:
    """Normal values by seed around 0.7 and each variant's effect."""
    random = np.random.default_rng(seed)
    return {name: (0.7 + effect + sd * random.normal(size=num_seeds)).tolist() for name, effect in effects.items()}
