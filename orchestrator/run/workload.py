"""The workload of a real trial: the method of its assignment, trained by PyTorch on the device at hand.

Imports torch; only workers import this module, by the name in `TRAIN`.
"""

import torch

from msa_models.data import Corpus
from msa_models.training import Objective, Training
from orchestrator.plan import registry
from orchestrator.plan.configure import configure
from orchestrator.run.messages import Assignment

# The first optimiser of a process imports another second and a half of torch: before the first trial, not inside it.
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])


def train(assignment: Assignment, corpus: Corpus) -> Training:
    """A `Training` of the assignment, on CUDA where the worker has been given a GPU."""
    torch.set_num_threads(1)
    method = registry.method(assignment.method)
    return Training(
        method.build(configure(method.Config, assignment.config)),
        corpus.select(assignment.modalities),
        seed=assignment.seed,
        objective=Objective(metric=assignment.metric, direction=assignment.direction),
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
