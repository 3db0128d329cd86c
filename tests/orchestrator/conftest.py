"""Rows, records and storages as a driver would make them, without training anything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store import Store

MakeRow = Callable[..., dict[str, Any]]


@pytest.fixture
def make_row() -> MakeRow:
    """A finished trial: `make_row(number, state="PRUNED", params={...}, **{"valid/mae": 0.7})`."""

    def make(number: int = 0, *, state: str = "COMPLETE", phase: str = "search", **changes: Any) -> dict[str, Any]:
        study_id = changes.get("study_id", "cpsl-mosi-full")
        started_at = datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(minutes=number)
        value = None if state == "FAIL" else changes.get("valid/mae", 0.9 - 0.01 * number)
        params = changes.get("params", {"training.learning_rate": 1e-3 * (number + 1)})
        row = {
            "trial_id": f"{study_id}-{phase}-{number:04d}-{changes.get('seed', 0)}",
            "study_id": study_id,
            "method": "cpsl",
            "dataset": "mosi",
            "variant": "full",
            "modalities": "text+audio+vision",
            "phase": phase,
            "seed": 0,
            "number": number,
            "state": state,
            "objective": "valid/mae",
            "value": value,
            "params": params,
            "config": {"training.epochs": 27, **params},
            "epochs": 27,
            "best_epoch": 20,
            "duration_s": 2.5,
            "started_at": started_at,
            "finished_at": started_at + timedelta(seconds=3),
            "host": "node01",
            "git_commit": "0123abc",
            "code_fingerprint": "c0de",
            "data_fingerprint": "da7a",
            "versions": {"python": "3.11"},
            "attempts": 1,
        }
        if state == "FAIL":
            row |= {"error_type": "NonFiniteLoss", "error_message": "loss is nan", "traceback": "Traceback …"}
        else:
            row |= {"valid/mae": value, "valid/corr": 0.6, "test/mae": 0.95, "test/corr": 0.55}
        return row | changes

    return make


@pytest.fixture
def record() -> dict[str, Any]:
    """What a driver writes into experiment.json."""
    return {
        "experiment": {
            "method": "cpsl",
            "data": {"source": "mosi.pkl"},
            "objective": {"metric": "valid/mae", "direction": "minimize"},
            "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
            "search": {"trials": 60, "sampler": "tpe", "seed": 0},
            "confirm": {"seeds": 5},
        },
        "identity": ["1f3a"],
        "metrics": ["mae", "corr"],
        "direction": "minimize",
        "planned": {"search": 60, "confirm": 5},
        "argv": ["msa", "sweep", "cpsl.yaml"],
        "created_at": "2026-03-01T12:00:00+00:00",
    }


@pytest.fixture
def store(tmp_path: Path, record: dict[str, Any]) -> Store:
    """A new storage."""
    return Store.create(tmp_path / "storage", record)


@pytest.fixture
def curve() -> list[dict[str, float]]:
    """The measurements of a short trial."""
    return [{"epoch": epoch, "valid/mae": 1.0 - 0.1 * epoch, "train/loss": 2.0 - epoch} for epoch in range(1, 4)]
