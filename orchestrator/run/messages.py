"""What the driver and its workers tell each other: an assignment to train, a report after each stretch of training.

Plain data that survives a file and a network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from msa_models.metrics import Direction
from msa_models.text.encoder import TextEncoder
from orchestrator.plan.search import Members


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Everything a worker needs to train one trial of one study.

    `params` is what the sampler suggested, `config` the whole method configuration as it was planned.
    """

    trial_id: str
    study_id: str
    phase: str  # search | confirm
    number: int  # within the study and phase
    seed: int
    method: str
    modalities: tuple[str, ...]
    data_fingerprint: str  # of all that trials of its study can read
    params: dict[str, Any]
    config: dict[str, Any]
    metric: str  # valid/...
    direction: Direction
    rungs: tuple[int, ...]  # epochs at which the driver may prune; none for confirm trials
    members: Members | None = None  # of a search trial of several trainings
    keep: bool = False  # the model of the best epoch
    robustness: Mapping[str, Any] | None = None  # conditions to evaluate it in, of `msa_models.evaluation.Robustness`
    scale: int = 1  # of what it occupies; doubled when it ran out of memory
    time_s: float | None = None  # that it may train, over all attempts
    keep_best: bool = False  # whether it is complete at its best epoch when that is over, or has failed
    changes: Mapping[str, Any] = field(default_factory=dict)  # by path, what it has instead; see `run.retries`
    threads: int = 1  # that compute

    @classmethod
    def of_row(cls, row: Mapping[str, Any], direction: Direction, members: Members | None = None) -> Self:
        """What a finished trial was told, as its row says it, without what only matters to a run."""
        return cls(
            **{name: row[name] for name in ("trial_id", "study_id", "phase", "number", "seed", "method")},
            modalities=tuple(row["modalities"].split("+")),
            data_fingerprint=row["data_fingerprint"],
            params=json.loads(row["params"]),
            config=json.loads(row["config"]),
            metric=row["objective"],
            direction=direction,
            rungs=(),
            members=members,
            changes=json.loads(row.get("changes") or "{}"),
        )

    def on(self, cpu: float) -> Self:
        """The same where a trial has so many CPU slots, unless it has others: a thread computes for each whole one."""
        slots = self.changes.get("resources.cpu", cpu) * self.scale
        return replace(self, threads=max(1, int(slots)))

    def to_json(self) -> str:
        """One line of JSON."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}  # no copy of all that is in there
        members = None if self.members is None else asdict(self.members)
        return json.dumps(values | {"members": members}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The inverse of `to_json`."""
        data = json.loads(text)
        lists = {name: tuple(data[name]) for name in ("modalities", "rungs")}
        members = data.get("members")
        if members is not None:
            members = Members(**members | {"seeds": tuple(members["seeds"])})
        return cls(**data | lists | {"direction": Direction(data["direction"]), "members": members})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trained trial: metrics of valid, and of a confirm trial of test, at the best epoch.

    `warning`: one line on what is not as it should be though the trial is COMPLETE, or nothing.
    """

    best_epoch: int
    value: float
    metrics: dict[str, float]
    warning: str = ""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A trial that raised."""

    error_type: str
    message: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """One stretch: new measurements (all of them after a restart), and how the trial ended, if it did.

    `mates` are the reports of those that are trained with it, by trial id.
    """

    measurements: list[dict[str, float]]
    host: str
    pid: int
    started: float  # of this stretch, seconds since the epoch
    busy_s: float  # spent inside training and evaluation
    total_s: float = 0.0  # the same of the whole trial so far, over all attempts
    end: Outcome | Failure | None = None
    inside: bool = False  # whether it ends inside an epoch, where nothing is decided
    torch: str = ""  # the build that trained, which on a node with GPUs is another than the driver's
    storage_fault: str = ""  # the storage could not be written or read: no fault of the trial, which stays unfinished
    mates: Mapping[str, Report] = field(default_factory=dict)

    def of(self, trial_id: str) -> Report:
        """That of one of the trials."""
        return self.mates.get(trial_id, self)


def inputs_key(data_fingerprint: str, config: Mapping[str, Any]) -> str:
    """What a trial reads, by the data fingerprint of its study and its whole configuration as plain data."""
    asked = config.get("text_encoder")
    return data_fingerprint if asked is None else f"{data_fingerprint} {json.dumps(TextEncoder(**asked).reads)}"
