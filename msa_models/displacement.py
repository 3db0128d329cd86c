"""Displacement: how far a balancing rule moves the updates of each encoder, measured while it trains.

M modalities, B batch, T time steps, D width, F followed features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from msa_models.representations import Representations

FOLLOWED = 8  # F: enough that the lengths of their updates are within a few percent of those of a whole encoder


class Displacement:
    """Length of each encoder's updates over their length without the rule, both by the optimiser's own arithmetic.

    What is followed is a linear map (D, F) from the first F features of an encoder's representation to all D, which
    would be added to it: its gradient is that of the representation times these features. Two optimisers follow it from
    the first step on; one sees the gradients that the rule lets through, the other those before it. Two whole ones
    would cost a second backward pass [ours]. Without their history a factor would seem to act under Adam, which in
    truth divides by the size of what it let through before. Of a rule that is a factor it agrees with whole ones
    within some 0.05; noise and other directions make it coarser (docs/log.md).

    The learning rate cancels. Clipping is that of the step for both; weight decay is left out. Where a rule scales
    updates, the ratio is its factor. Nothing is drawn, and nothing that is trained is changed.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._settings = optimizer.defaults
        self._gathered: torch.Tensor | None = None  # (2, M, D F): with and without the rule, of a step not complete
        self._lengths: torch.Tensor | None = None  # (2, M): of all steps since they were told last
        self.state: dict[str, torch.Tensor] = {}  # what both optimisers remember

    def gather(
        self,
        let_through: Mapping[str, torch.Tensor],
        whole: Mapping[str, torch.Tensor],
        representations: Representations,
        share: float,
    ) -> None:
        """Take note of gradients (B, 1 + T, D) of a batch, which is a share of a step."""
        features = {name: each.hidden.detach().flatten(0, 1)[:, :FOLLOWED] for name, each in representations.items()}
        found = torch.stack(
            [each[name].flatten(0, 1).T.mm(known) for each in (let_through, whole) for name, known in features.items()]
        )
        found = found.view(2, len(features), -1).mul_(share)
        self._gathered = found if self._gathered is None else self._gathered.add_(found)

    def step(self, scale: torch.Tensor | None, clipped: torch.Tensor | None) -> None:
        """A step is complete; `scale` (M,) is that of the updates, `clipped` a scalar, that of all gradients."""
        assert self._gathered is not None, "no batch was gathered"
        gradient, self._gathered = self._gathered if clipped is None else self._gathered.mul_(clipped), None
        lengths = torch.linalg.vector_norm(self._update(gradient), dim=-1)
        if scale is not None:
            lengths[0] *= scale
        self._lengths = lengths if self._lengths is None else self._lengths.add_(lengths)

    def tell(self) -> torch.Tensor:
        """The ratio (M,) of the steps since the last time; 1 where nothing would have moved without the rule."""
        assert self._lengths is not None, "no step was complete"
        (with_rule, without), self._lengths = self._lengths, None
        return torch.where(without > 0, with_rule / without, 1.0).clamp_max(torch.finfo(without.dtype).max)

    def restore(self, state: Mapping[str, torch.Tensor], device: str) -> None:
        """Go on from the `state` that another had at the end of an epoch."""
        self._gathered = self._lengths = None
        self.state = {name: tensor.clone() if name == "steps" else tensor.to(device) for name, tensor in state.items()}

    def _update(self, gradient: torch.Tensor) -> torch.Tensor:
        """What the optimiser would take from the maps (2, M, D F), over the learning rate."""
        if "betas" in self._settings:
            return self._adam(gradient, self._settings["betas"], self._settings["eps"])
        if self._settings["momentum"] == 0:
            return gradient
        average = self.state.setdefault("average", torch.zeros_like(gradient))
        return average.mul_(self._settings["momentum"]).add_(gradient)

    def _adam(self, gradient: torch.Tensor, betas: tuple[float, float], epsilon: float) -> torch.Tensor:
        """Algorithm 1 of arXiv:1412.6980, without the correction of the first moment, which cancels."""
        first, second = betas
        if not self.state:
            self.state = {"average": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
            self.state["steps"] = torch.zeros((), dtype=torch.float64)
        average, square, steps = self.state["average"], self.state["square"], self.state["steps"].add_(1.0)
        average.lerp_(gradient, 1.0 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
        return average / (square.sqrt() / (1.0 - second ** steps.item()) ** 0.5 + epsilon)
