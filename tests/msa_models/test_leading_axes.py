"""Models in one pass: whatever stands above the representation boundary gives each of several what it gets alone.

S models, one behind the other on a leading axis of every tensor.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from msa_models.batch import Batch, batches
from msa_models.data.corpus import Corpus
from msa_models.network import Network, cut, shapes
from msa_models.representations import TASK, Forward, Gradients, Representation
from msa_models.seams import Progress
from orchestrator.plan.configure import configure, known_method

from .conftest import MakeCorpus

SEEDS = (3, 4)
STEPS = 3  # what is remembered is of some batches
SMALL = {"encoder.width": 8, "encoder.heads": 2, "encoder.dropout": 0.0}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "cpsl": ("cpsl", {}),
    "statistics of predictions": ("cpsl", {"statistical_loss.target": "prediction"}),
    "pase": ("pase", {"transport.marginals": "frequency"}),
    "ogm_ge": ("concat", {"ogm_ge": {}, "ogm_ge.noise": False}),
    "shapley_modulation": ("concat", {"shapley_modulation": {}, "shapley_modulation.utility": "task"}),
    **{name: ("concat", {name: {}}) for name in ("conflict_penalty", "agm", "cggm", "mmpareto", "pmr")},
}


class _Linear(nn.Module):
    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]).unsqueeze(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = torch.baddbmm(self.bias, inputs.flatten(1, -2), self.weight)
        return outputs.view(*inputs.shape[:-1], -1)


class _Norm(nn.Module):
    def __init__(self, layers: Sequence[nn.LayerNorm]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        normed, ones = nn.functional.layer_norm(inputs, inputs.shape[-1:]), [1] * (inputs.dim() - 2)
        return normed * self.weight.view(len(inputs), *ones, -1) + self.bias.view(len(inputs), *ones, -1)


STACKED: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {nn.Linear: _Linear, nn.LayerNorm: _Norm}


def stacked(modules: Sequence[nn.Module]) -> nn.Module:
    """One module of the modules of several models; buffers that are not saved are constants, the same in all."""
    first = modules[0]
    if type(first) in STACKED:
        return STACKED[type(first)](modules)
    whole = copy.copy(first)
    whole._modules = {name: stacked([each.get_submodule(name) for each in modules]) for name in first._modules}
    whole._parameters = {
        name: nn.Parameter(torch.stack([each.get_parameter(name).detach() for each in modules]))
        for name in first._parameters
    }
    whole._buffers = {
        name: first.get_buffer(name)
        if name in first._non_persistent_buffers_set
        else torch.stack([each.get_buffer(name) for each in modules])
        for name in first._buffers
    }
    return whole


def above(network: Network, batch: Batch, hidden: Mapping[str, Representation], step: int) -> dict[str, torch.Tensor]:
    """All that happens in a step above the boundary: losses, their gradients, what the modulator makes of them."""
    leaves = cut(hidden)
    forward: Forward = network.decide(batch, leaves)
    losses = network.losses(forward)
    modulator = network.spec.modulator
    groups = {"task": TASK, modulator.name: modulator.group}
    groups |= {name: term.group for name, term in network.spec.terms.items()}
    gradients: dict[str, dict[str, torch.Tensor]] = {}
    for group in dict.fromkeys(groups[name] for name in losses):
        total = torch.stack([loss for name, loss in losses.items() if groups[name] == group]).sum()
        found = torch.autograd.grad(
            total, [each.hidden for each in leaves.values()], retain_graph=True, allow_unused=True
        )
        gradients[group] = {
            name: torch.zeros_like(leaves[name].hidden) if each is None else each
            for name, each in zip(leaves, found, strict=True)
        }
    several = next(iter(hidden.values())).hidden.dim() > 3
    progress = Progress(epoch=step, epochs=4, seeds=(1,) * (len(SEEDS) if several else 1))
    with torch.no_grad():
        modulation = modulator.balance(network.parts[modulator.name], Gradients(gradients), forward, progress)
    scale = {} if modulation.step_scale is None else {"step_scale": modulation.step_scale}
    return {
        **losses,
        **forward.log,
        **modulation.log,
        **modulation.gradients,
        **scale,
        "prediction": forward.prediction,
    }


def assert_same_in_one_pass(method: str, changes: Mapping[str, Any], corpus: Corpus) -> None:
    known = known_method(method)
    spec = known.build(configure(known.Config, {**SMALL, **changes}))
    alone = [Network(spec, shapes(corpus, 8), seed) for seed in SEEDS]
    together = copy.copy(alone[0])
    together._modules = {**alone[0]._modules}
    for name in ("parts", "head"):
        together._modules[name] = stacked([each.get_submodule(name) for each in alone])
    drawn = [list(batches(corpus.splits["train"], 12))[start : start + STEPS] for start in (0, 2)]
    for step in range(STEPS):
        own = [each[step] for each in drawn]
        hidden = [network.encode(batch) for network, batch in zip(alone, own, strict=True)]
        expected = [above(*each, step) for each in zip(alone, own, hidden, strict=True)]
        found = above(together, _stacked_batch(own), _stacked_hidden(hidden), step)
        assert all(set(each) == set(found) for each in expected)
        for index, each in enumerate(expected):
            for name, values in each.items():
                torch.testing.assert_close(found[name][index], values, rtol=1e-4, atol=1e-6, msg=f"{name}, step {step}")


def _stacked_batch(own: Sequence[Batch]) -> Batch:
    def stack(field: str) -> dict[str, torch.Tensor]:
        return {name: torch.stack([getattr(each, field)[name] for each in own]) for name in getattr(own[0], field)}

    return Batch(
        inputs=stack("inputs"),
        masks=stack("masks"),
        targets=torch.stack([each.targets for each in own]),
        unimodal=stack("unimodal"),
    )


def _stacked_hidden(hidden: Sequence[Mapping[str, Representation]]) -> dict[str, Representation]:
    return {
        name: Representation(
            hidden=torch.stack([each[name].hidden for each in hidden]),
            mask=None if first.mask is None else torch.stack([each[name].mask for each in hidden]),  # pyright: ignore
        )
        for name, first in hidden[0].items()
    }


@pytest.mark.parametrize("layout", ["utterances", "sequences"])
@pytest.mark.parametrize("name", METHODS)
def test_models_in_one_pass_are_each_what_they_are_alone(name: str, layout: str, make_corpus: MakeCorpus) -> None:
    method, changes = METHODS[name]
    assert_same_in_one_pass(method, changes, make_corpus("regression", layout=layout))


@pytest.mark.parametrize("task", ["classification", "multilabel"])
@pytest.mark.parametrize("name", METHODS)
def test_so_they_are_in_tasks_of_classes_and_labels(name: str, task: str, make_corpus: MakeCorpus) -> None:
    method, changes = METHODS[name]
    assert_same_in_one_pass(method, changes, make_corpus(task, layout="utterances"))


@pytest.mark.parametrize("name", METHODS)
def test_so_they_are_with_two_modalities_and_losses_of_squares(name: str, make_corpus: MakeCorpus) -> None:
    method, changes = METHODS[name]
    corpus = make_corpus("regression", layout="utterances").select(("text", "vision"))
    assert_same_in_one_pass(method, {**changes, "training.loss": "mse"}, corpus)
