"""The workload of a real trial: the method of its assignment, trained by PyTorch on the device at hand."""

from msa_models.data import Corpus
from orchestrator.plan import configure, registry
from orchestrator.run.assignment import Assignment


def train(assignment: Assignment, corpus: Corpus):
    """A `Training` of the assignment, on CUDA where the worker has been given a GPU."""
    import torch

    from msa_models.training import Objective, Training

    torch.set_num_threads(1)
    method = registry.method(assignment.method)
    blueprint = method.build(configure.configure(method.Config, assignment.config))
    return Training(
        blueprint,
        corpus.select(assignment.modalities),
        seed=assignment.seed,
        objective=Objective(metric=assignment.metric, direction=assignment.direction),
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
