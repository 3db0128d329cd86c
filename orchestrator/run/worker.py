"""The worker: a warm process under Ray Tune that trains one assignment after another.

Ray sees an error only when a process or a node is lost; what a trial raises is part of its report.
"""

from __future__ import annotations

import pkgutil
from typing import Any

from ray import tune

from orchestrator.run.assignment import Assignment
from orchestrator.run.trainee import Trainee
from orchestrator.store import Store


class Worker(tune.Trainable):
    """Ray Tune's class API around a `Trainee`; `config` holds one assignment as JSON."""

    def setup(self, config: dict[str, Any], corpora: Any = None, storage: str = "", workload: str = "") -> None:
        """`corpora`, by fingerprint, are read from this machine's object store, not copied; `workload` names one."""
        self.corpora, self.common = corpora, (Store.open(storage), pkgutil.resolve_name(workload))
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next assignment; the process, torch and the corpora stay warm."""
        assignment = Assignment.from_json(new_config["assignment"])
        self.trainee = Trainee(assignment, self.corpora[assignment.data_fingerprint], *self.common)
        return True

    def step(self) -> dict[str, Any]:
        """One stretch of training."""
        return {"report": self.trainee.stretch()}
