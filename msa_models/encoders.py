"""Encoders: one per modality, from standardised input to the representation H_m (B, 1 + T, D), summary first.

B batch, T time steps, d_m feature width, D width.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from msa_models.config import EncoderConfig
from msa_models.lengths import LONG, alike, trimmed
from msa_models.representations import Representation

GROUP = 2048  # steps of a long batch that are encoded at once, on a CPU: more of them are more padding


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
        return Representation(hidden=self.layers(inputs).unsqueeze(-2))


class SequenceEncoder(nn.Module):
    """(B, T, d_m) with mask (B, T) -> (B, 1 + T, D): projection, positions, mixing over time, attentive pooling."""

    def __init__(self, features: int, config: EncoderConfig) -> None:
        super().__init__()
        self.pool, self.stride = config.pool, config.stride or config.pool
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.project = nn.Linear(features, config.width)
        self.mix = _MIXERS[config.kind](config)
        self.norm = nn.LayerNorm(config.width)
        self.score = nn.Linear(config.width, 1, bias=False)

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor | None) -> Representation:
        assert mask is not None, "sequences come with masks"
        if (self.pool, self.stride) != (1, 1):
            inputs, mask = pooled(inputs, mask, self.pool, self.stride)
        hidden = self.project(self.input_dropout(inputs))
        if not isinstance(self.mix, _Lstm):  # which knows the order of the steps without
            hidden = hidden + _positions(mask, hidden.shape[2]).to(hidden)
        hidden = self.norm(self.mix(hidden, mask))
        attention = self.score(hidden).masked_fill(~mask.unsqueeze(-1), -math.inf).softmax(1)
        summary = (attention * hidden).sum(1, keepdim=True)
        return Representation(hidden=torch.cat([summary, hidden], dim=1), mask=mask)


class _Transformer(nn.Module):
    """Pre-norm layers. On a CPU no fused kernel drops weights of attention: that costs T^2 in memory, and time."""

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
        self._dropout, self._on = config.dropout, config.attention_dropout

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        long = hidden.shape[1] > LONG
        on_values = self._on == "values" or (self._on is None and long)
        if not (on_values if self.training else on_values or long):
            return self.layers(hidden, src_key_padding_mask=~mask)
        for layer in self.layers.layers:
            assert isinstance(layer, nn.TransformerEncoderLayer)
            attended = self._attention(layer.self_attn, layer.norm1(hidden), mask)
            hidden = hidden + layer.dropout1(attended)
            inner = layer.dropout(functional.gelu(layer.linear1(layer.norm2(hidden))))
            hidden = hidden + layer.dropout2(layer.linear2(inner))
        return hidden

    def _attention(self, weights: nn.MultiheadAttention, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Attention (B, T, D) of all steps to the real ones, of which some are dropped out of the sum in training.

        A query's sum over steps is distributed as where its weights are dropped: each weight is 0 with the same
        probability by itself, and is divided by that of staying.
        """
        shape = (*hidden.shape[:2], 3, weights.num_heads, -1)
        mixed = functional.linear(hidden, weights.in_proj_weight, weights.in_proj_bias).view(shape)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        if self.training and self._dropout > 0:
            stays = functional.dropout(value.new_ones(*value.shape[:-1], 1), self._dropout)
            value = value * stays
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        return weights.out_proj(found.transpose(1, 2).flatten(2))


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


def is_of_sequences(encoder: nn.Module) -> bool:
    """Whether an encoder is one of sequences."""
    return any(isinstance(part, SequenceEncoder) for part in encoder.modules())


def encoded(encoder: nn.Module, inputs: torch.Tensor, mask: torch.Tensor | None, held: int | None) -> Representation:
    """What an encoder makes of a batch, of long sequences in groups of like length, each cut to its longest.

    With `held` at most so many steps are encoded at once, and what the backward pass needs of them is computed a second
    time, with the same dropout, instead of being remembered. No sample depends on who is in its group.
    """
    limits = [] if held is None else [held]
    if mask is not None and mask.shape[1] > LONG and not mask.is_cuda:  # which would wait for more and smaller kernels
        limits.append(GROUP)
    if mask is None or not limits:
        return encoder(inputs, mask)
    steps = mask.shape[1]
    real = (mask.long() * torch.arange(1, steps + 1, device=mask.device)).amax(1).tolist()
    groups = alike(real, steps, min(limits))
    if len(groups) == 1 and held is None:
        return encoder(inputs, mask)
    found = []
    for group in groups:
        kept = trimmed(max(real[index] for index in group), steps) if len(groups) > 1 else steps
        rows = torch.tensor(group, device=mask.device)
        part = inputs.index_select(0, rows)[:, :kept], mask.index_select(0, rows)[:, :kept]
        found.append(encoder(*part) if held is None else checkpoint(encoder, *part, use_reentrant=False))
    masks = [each.mask for each in found]
    longest = max(each.hidden.shape[1] for each in found)
    back = torch.tensor([index for group in groups for index in group], device=mask.device).argsort()
    hidden = [functional.pad(each.hidden, (0, 0, 0, longest - each.hidden.shape[1])) for each in found]
    padded = [functional.pad(each, (0, longest - 1 - each.shape[1])) for each in masks]
    return Representation(hidden=torch.cat(hidden).index_select(0, back), mask=torch.cat(padded).index_select(0, back))


def pooled(inputs: torch.Tensor, mask: torch.Tensor, size: int, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means (B, T', d) over the real steps of windows of `size`, one every `stride` steps from the first real one on.

    With their mask (B, T'): a window without any real step is none. T' is T / stride, rounded up. So it does not matter
    how much padding there is, nor where.
    """
    steps = mask.shape[1]
    place = mask.int().argmax(1, keepdim=True) + torch.arange(steps, device=mask.device)
    real = mask.gather(1, place.clamp_max(steps - 1)) & (place < steps)
    values = inputs.gather(1, place.clamp_max(steps - 1).unsqueeze(-1).expand_as(inputs))
    values = values.masked_fill(~real.unsqueeze(-1), 0.0)
    both = functional.pad(torch.cat([values, real.unsqueeze(-1).to(values)], -1).mT, (0, size - 1))
    means = functional.avg_pool1d(both, size, stride).mT
    share = means[..., -1:]
    # A share is that of real steps in a window, which cancels what the mean of all steps was divided by.
    return means[..., :-1] / share.clamp_min(0.5 / size), share.squeeze(-1) > 0


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
