"""A snapshot of a training: its progress as JSON and named groups of tensors, in one safetensors file."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch

_PROGRESS = "progress"

Groups = Mapping[str, Mapping[str, torch.Tensor]]


def pack(progress: Mapping[str, Any], groups: Groups) -> bytes:
    """The bytes of a snapshot; the name of a group has no dot."""
    tensors = {_PROGRESS: torch.frombuffer(bytearray(json.dumps(progress).encode()), dtype=torch.uint8)}
    for group, named in groups.items():
        tensors |= {f"{group}.{name}": tensor.contiguous() for name, tensor in named.items()}
    return safetensors.torch.save(tensors)


def unpack(data: bytes) -> tuple[dict[str, Any], Groups]:
    """What `pack` was given; a group that was empty is so again. Raises ValueError for anything else."""
    try:
        tensors = safetensors.torch.load(data)
        progress = json.loads(bytes(tensors.pop(_PROGRESS).numpy()))
        if not isinstance(progress, dict):
            raise ValueError(f"its progress is {type(progress).__name__}, expected an object")
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"these {len(data)} bytes are no whole snapshot: {error}") from error
    groups: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        group, _, key = name.partition(".")
        groups[group][key] = tensor
    return progress, groups


def check(
    trial: Mapping[str, str],
    expected: Mapping[str, str],
    networks: Iterable[Mapping[str, torch.Tensor]],
    learned: Mapping[str, torch.Tensor],
) -> None:
    """Raises ValueError for a snapshot of another `trial` than expected, or of networks unlike what is `learned`.

    Of the trial only what is expected is compared; of networks the names and shapes of their tensors.
    """
    if differing := [what for what, value in expected.items() if trial.get(what) != value]:
        raise ValueError(f"a snapshot of another trial: {' and '.join(differing)} differ")
    if any(_shapes(network) != _shapes(learned) for network in networks):
        raise ValueError("a snapshot of another architecture: names or shapes of its tensors differ")


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What an optimiser remembers of each parameter, as `<index>.<name>`."""
    states: dict[int, dict[str, torch.Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, state in states.items() for name, tensor in state.items()}


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """The inverse of `optimizer_state`; learning rates and other settings stay as they are."""
    states: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        states[int(index)][key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(states)})


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
