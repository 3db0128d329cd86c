"""Encoders: one per modality, from standardised input to the representation H_m (B, 1 + T, D), summary first.

B batch, T time steps, d_m feature width, D width.
"""

import math

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from msa_models.config import EncoderConfig
from msa_models.representations import Representation


class UtteranceEncoder(nn.Module):
    """(B, d_m) -> (B, 1, D) by an MLP of `layers` hidden layers."""

    def __init__(self, features: int, config: EncoderConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Dropout(config.input_dropout)]
        for index in range(config.layers):
            layers += [
                nn.Linear(features if index == 0 else config.width, config.width),
                nn.GELU(),
                nn.Dropout(config.dropout),
            ]
        self.layers = nn.Sequential(*layers, nn.Linear(config.width, config.width), nn.LayerNorm(config.width))

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor | None) -> Representation:
        return Representation(hidden=self.layers(inputs).unsqueeze(1))


class SequenceEncoder(nn.Module):
    """(B, T, d_m) with mask (B, T) -> (B, 1 + T, D): projection, positions, mixing over time, attentive pooling."""

    def __init__(self, features: int, config: EncoderConfig) -> None:
        super().__init__()
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.project = nn.Linear(features, config.width)
        self.mix = _MIXERS[config.kind](config)
        self.norm = nn.LayerNorm(config.width)
        self.score = nn.Linear(config.width, 1, bias=False)

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor | None) -> Representation:
        assert mask is not None, "sequences come with masks"
        hidden = self.project(self.input_dropout(inputs))
        if not isinstance(self.mix, _Lstm):  # which knows the order of the steps without
            hidden = hidden + _positions(mask, hidden.shape[2]).to(hidden)
        hidden = self.norm(self.mix(hidden, mask))
        attention = self.score(hidden).masked_fill(~mask.unsqueeze(-1), -math.inf).softmax(1)
        summary = (attention * hidden).sum(1, keepdim=True)
        return Representation(hidden=torch.cat([summary, hidden], dim=1), mask=mask)


class _Transformer(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            2 * config.width,
            config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.layers(hidden, src_key_padding_mask=~mask)


class _Convolutions(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(config.width, config.width, 3, padding=1) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        real = mask.unsqueeze(-1).to(hidden.dtype)
        for layer in self.layers:
            mixed = layer((hidden * real).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + self.dropout(nn.functional.gelu(mixed))
        return hidden


class _Lstm(nn.Module):
    """In both directions, D / 2 each, over the real steps alone: wherever padding stands, it is no step [ours]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        between = config.dropout if config.layers > 1 else 0.0  # torch drops between layers only, and warns of one
        self.layers = nn.LSTM(
            config.width, config.width // 2, config.layers, dropout=between, batch_first=True, bidirectional=True
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        first = mask.int().argsort(
            dim=1, descending=True, stable=True
        )  # (B, T): real steps in their order, then others
        index = first.unsqueeze(-1).expand_as(hidden)
        lengths = mask.sum(1).clamp_min(1).cpu()
        packed = pack_padded_sequence(hidden.gather(1, index), lengths, batch_first=True, enforce_sorted=False)
        mixed, _ = pad_packed_sequence(self.layers(packed)[0], batch_first=True, total_length=hidden.shape[1])
        return self.dropout(torch.zeros_like(hidden).scatter(1, index, mixed))


_MIXERS = {"transformer": _Transformer, "conv": _Convolutions, "lstm": _Lstm}


class Projected(nn.Module):
    """An encoder of another width, brought to D by a linear map, so that all representations can meet [ours]."""

    def __init__(self, encoder: nn.Module, own: int, width: int) -> None:
        super().__init__()
        self.encoder, self.project = encoder, nn.Linear(own, width)

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor | None) -> Representation:
        found: Representation = self.encoder(inputs, mask)
        return Representation(hidden=self.project(found.hidden), mask=found.mask)


def encoder(features: int, sequence: bool, config: EncoderConfig, width: int | None = None) -> nn.Module:
    """The encoder that fits the layout of a modality; of another width than `width` it is projected to that."""
    found = SequenceEncoder(features, config) if sequence else UtteranceEncoder(features, config)
    return found if width in (None, config.width) else Projected(found, config.width, width)


def _positions(mask: torch.Tensor, width: int) -> torch.Tensor:
    """Sinusoidal positions (B, T, D), Vaswani et al. 2017 (arXiv:1706.03762), counted from the first real step.

    So it does not matter whether a corpus pads its sequences in front or behind.
    """
    steps = torch.arange(mask.shape[1], device=mask.device)
    frequencies = torch.exp(torch.arange(0, width, 2, device=mask.device) * (-math.log(10_000.0) / width))
    angles = steps.unsqueeze(1) * frequencies
    table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]
    first = mask.int().argmax(1, keepdim=True)
    return table[(steps - first).clamp_min(0)]
