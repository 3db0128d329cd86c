"""How a batch lies to the prototypes of its modalities (PaSE, arXiv:2511.17585).

Everything is computed at its first use in a step and then shared by whoever needs it, losses together with their
gradients, by hand and on the host. Some hundred operations on arrays this small cost what calling them costs: less in
NumPy than in torch with its graph, and on a GPU less than launching as many kernels (docs/log.md).

B batch, D model width, M modalities, K classes, P = M (M - 1) / 2 pairs of modalities in lexicographic order,
`…` leading axes of models that are trained together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from msa_models.lazy import torch
from msa_models.representations import Representations

SMALLEST_NORM = 1e-8

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """Centres (M, K, D) of the classes that were `seen` (K,), and the temperature of their softmax.

    `shares` (K, B): those of a batch's samples in its class means, where the prototypes have just learned of it.
    """

    centers: torch.Tensor
    seen: torch.Tensor
    tau: float
    shares: torch.Tensor | None = None

    @cached_property
    def directed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The L2-normalised centres (M, K, D), 0 where a class was not seen, and their norms (M, K, 1)."""
        return directed(self.centers)

    def logits(self, unit: torch.Tensor) -> torch.Tensor:
        """cos(h_i, c_k) / tau (M, B, K) of normalised h (M, B, D); -inf for classes not seen, all 0 before any was."""
        cosines = unit @ self.directed[0].mT / self.tau
        unseen = ~self.seen & self.seen.any(-1, keepdim=True)
        return cosines.masked_fill(unseen[..., None, None, :], float("-inf"))


def directed(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (…, D) divided by their norms (…, 1), and these."""
    norms = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min(SMALLEST_NORM)
    return vectors / norms, norms


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A batch, with `labels` of its classes, among prototypes.

    Gradients flow into the batch, directly and through the batch means that moved the prototypes, as if these were
    c + batch mean - detached batch mean [ours]: with detached prototypes and features alignment would train nothing.

    `potentials` (P, K) are what the next search for a transport between the prototypes of two modalities begins with.
    """

    prototypes: Prototypes
    representations: Representations
    pooled: torch.Tensor  # (M, B, D), their summaries without a graph
    labels: torch.Tensor  # (B,), or the share of each class (B, K)
    potentials: torch.Tensor

    def calibration(self) -> torch.Tensor:
        """Mean of the dispersion over the modalities, differentiable."""
        dispersion = self.dispersion
        return self.differentiable(dispersion.sum(-1) / dispersion.shape[-1], *self._dispersed[1])

    @property
    def dispersion(self) -> Array:
        """L_intra of each modality (M,): mean over the batch of -log softmax_k(cos(h_i, c_k) / tau)[y_i] [read].

        Of a sample with several classes: their mean, by its shares of them [ours].
        """
        return self._dispersed[0]

    @property
    def learning(self) -> bool:
        """Whether the prototypes have just learned of the batch."""
        return self.prototypes.shares is not None

    @cached_property
    def batch(self) -> Directed:
        """The batch (M, B, D)."""
        return Directed.of(_host(self.pooled))

    @cached_property
    def centers(self) -> Directed:
        """The prototypes (M, K, D)."""
        return Directed.of(_host(self.prototypes.centers))

    @cached_property
    def seen(self) -> Array:
        """The classes that have prototypes (K,); all of them before any has."""
        seen = _host(self.prototypes.seen)
        return np.where(seen.any(-1, keepdims=True), seen, True)

    @cached_property
    def classes(self) -> Array:
        """The class (B,) of each sample, or its share of each class (B, K)."""
        return _host(self.labels)

    @property
    def frequencies(self) -> Array:
        """How many samples of the batch each class has (K,); one of several classes counts by its shares of them."""
        classes = self.classes
        return (np.eye(self.seen.shape[-1])[classes] if classes.dtype.kind == "i" else classes).sum(-2)

    @cached_property
    def _dispersed(self) -> tuple[Array, tuple[Array, Array]]:
        """The dispersion, and the gradients of its mean with respect to the unit vectors of batch and centres."""
        unit, centers, tau = self.batch.unit, self.centers.unit, self.prototypes.tau
        logits = unit @ (centers.swapaxes(-2, -1) / tau)  # (…, M, B, K)
        np.copyto(logits, -math.inf, where=~self.seen[..., None, None, :])
        logits -= logits.max(-1, keepdims=True)
        to_logits = np.exp(logits)
        total = to_logits.sum(-1, keepdims=True)
        to_logits /= total
        if self.classes.dtype.kind == "i":
            rows = np.arange(0, logits.size, logits.shape[-1]).reshape(logits.shape[:-1])
            own = rows + self.classes[..., None, :]  # where the class of each sample stands among all logits
            losses = np.log(total[..., 0]) - logits.take(own)
            to_logits.reshape(-1)[own] -= np.float32(1.0)
        else:
            shares = self.classes[..., None, :, :]
            losses = np.log(total[..., 0]) - (shares * np.where(shares > 0, logits, 0.0)).sum(-1)
            to_logits -= shares
        to_logits /= losses.shape[-2] * losses.shape[-1] * tau
        return losses.sum(-1) / losses.shape[-1], (to_logits @ centers, to_logits.swapaxes(-2, -1) @ unit)

    def differentiable(self, value: Array, to_unit: Array | None, to_centers: Array) -> torch.Tensor:
        """The value as a scalar of the graph, whose gradient flows to the batch.

        It is given with respect to the unit vectors of the batch (M, B, D) and of the centres (M, K, D).
        """
        gradient = np.zeros_like(self.batch.unit) if to_unit is None else self.batch.through(to_unit)
        if self._shares is not None:
            gradient += self._shares @ self.centers.through(to_centers)
        hidden = [each.hidden for each in self.representations.values()]
        scalar = torch.as_tensor(value).to(hidden[0])
        return _by_hand().apply(scalar, torch.from_numpy(gradient).to(hidden[0]), *hidden)

    @cached_property
    def _shares(self) -> Array | None:
        """Those of the samples in the class means (1, B, K), where the prototypes have just learned of the batch."""
        shares = self.prototypes.shares
        return None if shares is None else _host(shares)[..., None, :, :].swapaxes(-2, -1)


@dataclass(frozen=True)
class Directed:
    """Vectors (…, D) as unit vectors and their norms (…, 1)."""

    unit: Array
    norms: Array

    @classmethod
    def of(cls, vectors: Array) -> Directed:
        """A zero vector stays 0."""
        norms = np.maximum(np.sqrt((vectors * vectors).sum(-1, keepdims=True)), SMALLEST_NORM)
        return cls(vectors / norms, norms)

    def through(self, to_unit: Array) -> Array:
        """The gradient with respect to the vectors of a gradient with respect to the unit vectors."""
        return (to_unit - self.unit * (self.unit * to_unit).sum(-1, keepdims=True)) / self.norms


@cache
def _by_hand() -> type[torch.autograd.Function]:
    """A scalar whose gradient (M, B, D) with respect to the summaries of the hidden states is known already."""

    class ByHand(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: torch.Tensor, gradient: torch.Tensor, *hidden: torch.Tensor) -> torch.Tensor:
            ctx.gradient, ctx.shapes = gradient.unsqueeze(-2), [each.shape for each in hidden]
            return value.clone()

        @staticmethod
        def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            weight = outputs[0] if outputs[0].dim() == 0 else outputs[0][..., None, None, None, None]
            gradients = (ctx.gradient * weight).unbind(-4)
            return None, None, *map(_placed, gradients, ctx.shapes)

    return ByHand


def _placed(gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The gradient (B, 1, D) of the summary among those of the time steps, (B, 1 + T, D)."""
    if shape[-2] == 1:
        return gradient
    placed = gradient.new_zeros(shape)
    placed[..., :1, :] = gradient
    return placed


def _host(tensor: torch.Tensor) -> Array:
    return tensor.numpy(force=True)
