"""A trial that runs, as far as its driver knows it, and the row that it comes to."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.run.curve import at_best, curve, intermediate_values, key
from orchestrator.run.messages import Assignment, Failure, Outcome, Report
from orchestrator.run.provenance import Provenance
from orchestrator.run.study_state import FAIL, StudyState


@dataclass
class Started:
    """A trial that was handed out, and what its workers have reported since."""

    assignment: Assignment
    study: StudyState
    attempts: int
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    measurements: list[dict[str, float]] = field(default_factory=list)
    busy_s: float = 0.0
    host: str = ""
    torch: str = ""

    @property
    def curve(self) -> list[float]:
        """The value so far after each epoch."""
        return curve(self.measurements, self.assignment.metric, self.assignment.direction)

    def take(self, report: Report) -> None:
        """Append the new measurements; a worker that starts over sends them again from its first epoch on."""
        if report.measurements:
            known = [key(row) for row in self.measurements]
            first = key(report.measurements[0])
            self.measurements = self.measurements[: known.index(first) if first in known else None]
            self.measurements += report.measurements
        self.busy_s = report.total_s
        self.host, self.torch = report.host, report.torch


def trial_row(
    started: Started,
    state: str,
    provenance: Provenance,
    metrics: Collection[str],
    *,
    outcome: Outcome | None = None,
    failure: Failure | None = None,
) -> dict[str, Any]:
    """What `trials/` gets of a trial that is over; `metrics`: those that the storage has columns for.

    A storage that was begun before a metric existed goes on without it.
    """
    assignment, study = started.assignment, started.study.study
    values, rows = started.curve, started.measurements
    best_epoch, best = at_best(rows, assignment.metric, assignment.direction) if rows else (None, {})
    row: dict[str, Any] = {
        "trial_id": assignment.trial_id,
        "study_id": assignment.study_id,
        "method": assignment.method,
        "dataset": study.dataset,
        "variant": study.variant.name,
        "modalities": "+".join(assignment.modalities),
        "phase": assignment.phase,
        "seed": assignment.seed,
        "number": assignment.number,
        "state": state,
        "objective": assignment.metric,
        "value": None if state == FAIL or not values else values[-1],
        "intermediate_values": json.dumps(intermediate_values(assignment.rungs, values)),
        "params": json.dumps(assignment.params, sort_keys=True),
        "config": json.dumps(assignment.config, sort_keys=True),
        "epochs": len(rows),
        "best_epoch": None if state == FAIL else outcome.best_epoch if outcome else best_epoch,
        "duration_s": started.busy_s,
        "started_at": started.since,
        "finished_at": datetime.now(UTC),
        "host": started.host,
        "git_commit": provenance.git_commit,
        "code_fingerprint": provenance.code_fingerprint,
        "data_fingerprint": study.data_fingerprint,
        "versions": json.dumps(provenance.versions | ({"torch": started.torch} if started.torch else {})),
        "error_type": failure.error_type if failure else None,
        "error_message": failure.message if failure else None,
        "traceback": failure.traceback if failure else None,
        "warning": (outcome.warning or None) if outcome else None,
        "attempts": started.attempts,
        "changes": json.dumps(assignment.changes, sort_keys=True) if assignment.changes else None,
    }
    measured: Mapping[str, float] = ({} if state == FAIL else best) | (outcome.metrics if outcome else {})
    return row | {name: value for name, value in measured.items() if name.partition("/")[2] in metrics}
