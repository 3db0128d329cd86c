"""The networks of several models as one, and their batches as one; tensors carry a leading axis of models.

Everything above the representation boundary counts its axes from the end anyway. Encoders of sequences stay one per
model: their time goes into arithmetic, of which a stack saves none on a CPU.

S models, B batch, T time steps, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from msa_models import encoders
from msa_models.batch import Batch
from msa_models.fused.modules import Generators, Stacker, is_opaque
from msa_models.network import Network
from msa_models.representations import Representation, Representations
from msa_models.varied import joined


@dataclass(frozen=True, kw_only=True)
class StackedBatch(Batch):
    """The batches of all models, sequences padded to the longest of them; its length is that of each, B."""

    each: Sequence[Batch] = field(repr=False)

    def __len__(self) -> int:
        return self.targets.shape[1]

    @classmethod
    def of(cls, each: Sequence[Batch]) -> StackedBatch:
        """ValueError for batches of different sizes."""
        first = each[0]
        if len({len(batch) for batch in each}) > 1:
            raise ValueError(f"batches of {sorted({len(batch) for batch in each})} samples, expected as many in each")
        return cls(
            inputs={
                name: _padded([batch.inputs[name] for batch in each], name in first.masks) for name in first.inputs
            },
            masks={name: _padded([batch.masks[name] for batch in each], True) for name in first.masks},
            targets=torch.stack([batch.targets for batch in each]),
            unimodal={name: torch.stack([batch.unimodal[name] for batch in each]) for name in first.unimodal},
            each=each,
        )


class StackedNetwork(Network):
    """The networks of several models, trained as one; `generators` are those that each one draws its dropout from."""

    def __init__(self, networks: Sequence[Network], generators: Generators) -> None:
        nn.Module.__init__(self)
        first = networks[0]
        self.__dict__.update({name: value for name, value in first.__dict__.items() if name not in self.__dict__})
        self.spec = joined([each.spec for each in networks])
        self.parameters_of: dict[str, nn.Parameter] = {}  # (S, …), by their names alone
        self.buffers_of: dict[str, torch.Tensor] = {}
        self._generators = generators
        stacker = Stacker(self.parameters_of, self.buffers_of, generators)
        self.encoders, self._apart = nn.ModuleDict(), dict[str, _Apart]()  # the ones of sequences are apart
        for modality, encoder in first.encoders.items():
            own, name = [each.encoders[modality] for each in networks], f"encoders.{modality}"
            if encoders.is_of_sequences(encoder):
                self._apart[modality] = _Apart(own, name, self.parameters_of)
                self.encoders[modality] = nn.Module()
            else:
                self.encoders[modality] = stacker.stacked(own, name)
        for name in ("parts", "head"):
            self.add_module(name, stacker.stacked([each.get_submodule(name) for each in networks], name))

    def train(self, mode: bool = True) -> StackedNetwork:
        for each in self._apart.values():
            for module in each.modules:
                module.train(mode)
        return super().train(mode)

    def encode(self, batch: Batch) -> Representations:
        """H_m (S, B, 1 + T, D) of every modality, padded to the longest model's T."""
        assert isinstance(batch, StackedBatch), batch
        return {
            modality: self._encoded_apart(modality, batch.each)
            if modality in self._apart
            else encoder(batch.inputs[modality], None)
            for modality, encoder in self.encoders.items()
        }

    def collect(self) -> None:
        """Bring the gradients of encoders that are one per model to the stacked parameters."""
        for each in self._apart.values():
            each.collect()

    def _encoded_apart(self, modality: str, batches: Sequence[Batch]) -> Representation:
        found = []
        for module, batch, generator in zip(self._apart[modality].modules, batches, self._generators, strict=True):
            most = self.spec.training.max_tokens
            held = most if sum(mask.numel() for mask in batch.masks.values()) > most else None
            with _drawing_from(generator):
                found.append(encoders.encoded(module, batch.inputs[modality], batch.masks[modality], held))
        masks = [each.mask for each in found if each.mask is not None]
        return Representation(
            hidden=_padded([each.hidden for each in found], True), mask=_padded(masks, True) if masks else None
        )


def stackable(network: Network) -> bool:
    """Whether every part of a network has a stacked form, and its components say that theirs are right."""
    if network.text is not None or not all(component.stacks for component in network.spec.components):
        return False
    apart = [encoder for encoder in network.encoders.values() if encoders.is_of_sequences(encoder)]
    others = set(network.modules()) - {part for encoder in apart for part in encoder.modules()}
    return not any(is_opaque(part) for part in others)


class _Apart:
    """Modules that stay one per model, whose parameters are parts of stacked ones."""

    def __init__(self, modules: Sequence[nn.Module], name: str, parameters: dict[str, nn.Parameter]) -> None:
        self.modules = [copy.deepcopy(module) for module in modules]
        self._pairs: list[tuple[nn.Parameter, list[nn.Parameter]]] = []
        for path, first in self.modules[0].named_parameters():
            own = [module.get_parameter(path) for module in self.modules]
            whole = nn.Parameter(torch.stack([each.detach() for each in own]), first.requires_grad)
            for each, part in zip(own, whole.detach().unbind(0), strict=True):
                each.data = part
            parameters[f"{name}.{path}"] = whole
            self._pairs.append((whole, own))

    def collect(self) -> None:
        for whole, own in self._pairs:
            gradients = [each.grad for each in own if each.grad is not None]
            if gradients:
                whole.grad = torch.stack(gradients)
            for each in own:
                each.grad = None


@contextmanager
def _drawing_from(generator: torch.Generator) -> Iterator[None]:
    """What draws from torch's own generator draws from this one inside."""
    assert generator.device.type == "cpu", generator.device
    outside = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(outside)


def _padded(each: Sequence[torch.Tensor], over_time: bool) -> torch.Tensor:
    """Tensors (B, T) or (B, T, d) one behind the other, with zeros up to the longest T."""
    steps = max(one.shape[1] for one in each) if over_time else 0
    if over_time and any(one.shape[1] < steps for one in each):
        each = [functional.pad(one, [0, 0] * (one.dim() - 2) + [0, steps - one.shape[1]]) for one in each]
    return torch.stack(list(each))
