"""The worker: a warm process under Ray Tune that trains one assignment after another.

Ray sees an error only when a process or a node is lost; what a trial raises is part of its report.
"""

from __future__ import annotations

import os
import pkgutil
import platform
from typing import Any

import ray
from ray import tune

from orchestrator.run.messages import Assignment, inputs_key
from orchestrator.run.trial_runner import TrialRunner, out_of_reach
from orchestrator.store import StorageError, Store


class Worker(tune.Trainable):
    """Ray Tune's class API around a `TrialRunner`; `config` holds one assignment as JSON."""

    def setup(self, config: dict[str, Any], corpora: Any = None, storage: str = "", workload: str = "") -> None:
        """`corpora`, by what a trial reads, are in this machine's object store, not copied; `workload` names one."""
        if not ray.get_gpu_ids():  # asked for none: without this it would see, and use, all of the node
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.corpora, self.workload, self.fault = corpora, pkgutil.resolve_name(workload), ""
        try:
            self.store = Store.open(storage)
        except StorageError as error:  # as on a node without the mount: no fault of any trial
            self.fault = f"{error} (on {platform.node()})"
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next assignment; the process, torch and the corpora stay warm."""
        if not self.fault:
            assignment = Assignment.from_json(new_config["assignment"])
            corpus = self.corpora[inputs_key(assignment.data_fingerprint, assignment.config)]
            self.runner = TrialRunner(assignment, corpus, self.store, self.workload)
        return True

    def step(self) -> dict[str, Any]:
        """One stretch of training."""
        return {"report": out_of_reach(self.fault) if self.fault else self.runner.stretch()}
