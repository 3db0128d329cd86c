"""A clock that runs while toys train, so that time can be tested without any."""

from msa_models.data import Corpus
from orchestrator.run.messages import Assignment
from tests.orchestrator.run.fakes import ToyRun


class Watch:
    """A clock that runs by `epoch_s` an epoch, and the workload of these toys."""

    def __init__(self, epoch_s: float = 1.0) -> None:
        self.now, self.epoch_s = 0.0, epoch_s

    def __call__(self) -> float:
        return self.now

    def toy(self, assignment: Assignment, corpus: Corpus) -> ToyRun:
        watch = self

        class Timed(ToyRun):
            def train_epoch(self) -> dict[str, float]:
                watch.now += watch.epoch_s
                return super().train_epoch()

        return Timed(assignment)
