"""A snapshot of a training: its progress as JSON and named groups of tensors, in one safetensors file."""

import json
import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from msa_models.data.corpus import Corpus
from msa_models.text.encoder import Pretrained

_PROGRESS, _LENGTH = "progress", 8  # bytes that say how long the header is


class _Kind(NamedTuple):
    name: str
    rank: int  # by which safetensors sorts


_KINDS = {
    kind: _Kind(name, rank)
    for rank, (name, kind) in enumerate(
        {
            **{"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "F16": torch.float16},
            **{"BF16": torch.bfloat16, "I32": torch.int32, "F32": torch.float32, "F64": torch.float64},
            **{"I64": torch.int64},
        }.items()
    )
}
_TYPES = {kind.name: dtype for dtype, kind in _KINDS.items()}

Groups = Mapping[str, Mapping[str, torch.Tensor]]


def pack(progress: Mapping[str, Any], groups: Groups) -> bytes:
    """The bytes of a snapshot, for which each tensor on a CPU is copied once."""
    return b"".join(pieces(progress, groups))


def pieces(progress: Mapping[str, Any], groups: Groups) -> list[bytes | memoryview]:
    """What the bytes of a snapshot are joined of: tensors on a CPU as they are, not copied.

    They change with the tensors, so join or write them before anything else. The name of a group has no dot.
    """
    tensors = {_PROGRESS: torch.frombuffer(bytearray(json.dumps(progress).encode()), dtype=torch.uint8)}
    for group, named in groups.items():
        tensors |= {f"{group}.{name}": tensor for name, tensor in named.items()}
    ordered = sorted(tensors, key=lambda name: (-_KINDS[tensors[name].dtype].rank, name))  # each is aligned then
    header: dict[str, dict[str, Any]] = {}
    end = 0
    for name in ordered:
        tensor, start = tensors[name], end
        end += tensor.nbytes
        kind = _KINDS[tensor.dtype].name
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH)
    return [len(text).to_bytes(_LENGTH, "little"), text, *(_bytes_of(tensors[name]) for name in ordered)]


def unpack(data: bytes | memoryview) -> tuple[dict[str, Any], Groups]:
    """What `pack` was given; a group that was empty is so again. Raises ValueError for anything else.

    The tensors are those bytes, not copies: nobody may change them.
    """
    try:
        tensors = dict(_tensors(data))
        progress = json.loads(bytes(tensors.pop(_PROGRESS).numpy()))
        if not isinstance(progress, dict):
            raise ValueError(f"its progress is {type(progress).__name__}, expected an object")
    except (KeyError, ValueError, TypeError, RuntimeError, RecursionError) as error:
        raise ValueError(f"these {len(data)} bytes are no whole snapshot: {error}") from error
    groups: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        group, _, key = name.partition(".")
        groups[group][key] = tensor
    return progress, groups


def copied(tensors: Mapping[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    """Copies of what was unpacked, on a device, one's own to change."""
    return {name: torch.empty_like(tensor, device=device).copy_(tensor) for name, tensor in tensors.items()}


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


def identity(
    spec: Any, objective: Any, corpus: Corpus, seed: int, pretrained: Pretrained | None = None
) -> dict[str, str]:
    """What a snapshot belongs to; of the corpus only what is cheap to tell, its fingerprint reads every feature."""
    sizes = {name: len(corpus.splits[name]) for name in ("train", "valid")}
    found = {
        "spec": repr(spec),
        "objective": repr(objective),
        "corpus": repr((corpus.name, corpus.task, corpus.scale, corpus.classes, corpus.dims, sizes)),
        "seed": repr(seed),
    }
    return found if pretrained is None else found | {"pretrained": repr((pretrained.name, pretrained.fingerprint))}


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What an optimiser remembers of each parameter, as `<index>.<name>`."""
    states: dict[int, dict[str, torch.Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, state in states.items() for name, tensor in state.items()}


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """The inverse of `optimizer_state`; learning rates and other settings stay as they are."""
    states: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        states[int(index)][key] = tensor.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(states)})


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _tensors(data: bytes | memoryview) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a safetensors file, which fill it without a gap. Raises ValueError, KeyError and TypeError."""
    start = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    if start > len(data):
        raise ValueError("its header is cut short")
    header = json.loads(bytes(data[_LENGTH:start]))
    if not isinstance(header, dict):
        raise ValueError(f"its header is {type(header).__name__}, expected an object")
    header.pop("__metadata__", None)
    end = 0
    for name, each in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        (first, last), shape, dtype = each["data_offsets"], each["shape"], _TYPES[each["dtype"]]
        count = math.prod(shape)
        if first != end or last - first != count * dtype.itemsize or any(size < 0 for size in shape):
            raise ValueError(f"its tensor {name} has shape {shape} and lies at {first} to {last}")
        end = last
        yield (
            name,
            (_viewed(data, dtype, count, start + first) if count else torch.empty(0, dtype=dtype)).reshape(shape),
        )
    if start + end != len(data):
        raise ValueError(f"its tensors come to {end} of {len(data) - start} bytes")


def _viewed(data: bytes | memoryview, dtype: torch.dtype, count: int, offset: int) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(data, dtype=dtype, count=count, offset=offset)
