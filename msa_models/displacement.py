"""Displacement: how far a balancing rule moves the updates of each encoder, measured while it trains.

M modalities, B batch, T time steps, D width, F followed features, S steps; leading axes of models may come before.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from msa_models.representations import Representations

FOLLOWED = 8  # F: enough that the lengths of their updates are within a few percent of those of a whole encoder
TOGETHER = 64  # steps that are followed at once
_STEP = ("gathered", "scale", "norm")


class Displacement:
    """Length of each encoder's updates over their length without the rule, both by the optimiser's own arithmetic.

    What is followed is a linear map (D, F) from the first F features of an encoder's representation to all D, which
    would be added to it: its gradient is that of the representation times these features. Two optimisers follow it from
    the first step on; one sees the gradients that the rule lets through, the other those before it. Two whole ones
    would cost a second backward pass [ours]. Without their history a factor would seem to act under Adam, which in
    truth divides by the size of what it let through before. Of a rule that is a factor it agrees with whole ones within
    some 0.05; noise and other directions make it coarser (docs/log.md).

    The learning rate cancels. Clipping is that of the step for both; weight decay is left out. Where a rule scales
    updates, the ratio is its factor. Nothing is drawn, and nothing that is trained is changed.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, limit: float | None) -> None:
        """Of steps of an optimiser whose gradients are clipped to a length of `limit`."""
        self._settings, self._limit = optimizer.defaults, limit
        self._gathered: torch.Tensor | None = None  # (2, M, D F): with and without the rule, of a step not complete
        self._steps: list[tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]] = []  # not yet followed
        self._lengths: torch.Tensor | None = None  # (2, M): of all steps since they were told last
        self._averages: dict[str, torch.Tensor] = {}  # what both optimisers remember: of gradients, and of squares
        self._num_steps = 0

    def gather(
        self,
        let_through: Mapping[str, torch.Tensor],
        whole: Mapping[str, torch.Tensor],
        representations: Representations,
        share: float,
    ) -> None:
        """Take note of gradients (B, 1 + T, D) of a batch, which is a share of a step."""
        with torch.no_grad():
            hidden = [each.hidden for each in representations.values()]
            gradients = [each[name] for each in (let_through, whole) for name in representations]
            if len({each.shape for each in hidden}) == 1:  # in few operations: each costs more than its arithmetic
                features = torch.stack(hidden, dim=-4)[..., :FOLLOWED].flatten(-3, -2)  # (M, B (1 + T), F)
                of_both = torch.stack(gradients, dim=-4).flatten(-3, -2).unflatten(-3, (2, -1))
                found = (of_both.mT @ features.unsqueeze(-4)).flatten(-2)
            else:
                pairs = zip(gradients, [each[..., :FOLLOWED] for each in hidden] * 2, strict=True)
                each_one = [each.flatten(-3, -2).mT @ known.flatten(-3, -2) for each, known in pairs]
                found = torch.stack(each_one, dim=-3).flatten(-2).unflatten(-2, (2, -1))
        found = found if share == 1.0 else found * share
        self._gathered = found if self._gathered is None else self._gathered + found

    def step(self, scale: torch.Tensor | None, norm: torch.Tensor | None) -> None:
        """A step is complete; `scale` (M,) is that of its updates, `norm` the length of all gradients, unclipped."""
        assert self._gathered is not None, "no batch was gathered"
        self._steps.append((self._gathered, scale, norm))
        self._gathered = None
        if len(self._steps) == TOGETHER:
            self._follow()

    def tell(self) -> torch.Tensor:
        """The ratio (M,) of the steps since the last time; 1 where nothing would have moved without the rule."""
        self._follow()
        assert self._lengths is not None, "no step was complete"
        (with_rule, without), self._lengths = self._lengths.unbind(-2), None
        return torch.where(without > 0, with_rule / without, 1.0).clamp_max(torch.finfo(without.dtype).max)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """What is to be remembered between two steps; inside an epoch those that are not yet followed, too."""
        state = {**self._averages, "steps": torch.tensor(self._num_steps)}
        if self._lengths is not None:
            state["lengths"] = self._lengths
        for index, values in enumerate(self._steps):
            named = zip(_STEP, values, strict=True)
            state |= {f"{index}.{name}": value for name, value in named if value is not None}
        return state

    def restore(self, state: Mapping[str, torch.Tensor], device: str) -> None:
        """Go on from the `state` that another had."""
        left = {name: tensor.to(device) for name, tensor in state.items() if name != "steps"}
        self._num_steps, self._gathered = int(state["steps"]), None
        self._lengths = left.pop("lengths", None)
        self._steps.clear()
        while (gathered := left.pop(f"{len(self._steps)}.{_STEP[0]}", None)) is not None:
            scale, norm = (left.pop(f"{len(self._steps)}.{name}", None) for name in _STEP[1:])
            self._steps.append((gathered, scale, norm))
        self._averages = left

    def _follow(self) -> None:
        """Add the lengths of what both optimisers make of the steps that came in, all at once."""
        if not self._steps:
            return
        gathered, scales, norms = zip(*self._steps, strict=True)
        self._steps.clear()
        gradients = torch.stack(gathered)  # (S, …, 2, M, D F)
        if self._limit is not None:
            clipped = self._limit / (torch.stack(norms) + 1e-6)  # as torch has it
            gradients = gradients * clipped.clamp_max(1.0)[..., None, None, None]
        lengths = self._updates(gradients).norm(dim=-1)
        if any(scale is not None for scale in scales):
            ones = torch.ones_like(lengths[0, ..., 0, :])
            lengths[..., 0, :] *= torch.stack([ones if scale is None else scale for scale in scales])
        lengths = lengths.sum(0)
        self._lengths = lengths if self._lengths is None else self._lengths + lengths

    def _updates(self, gradients: torch.Tensor) -> torch.Tensor:
        """What the optimiser would take from the maps (S, …, 2, M, D F) in each step, over the learning rate."""
        settings = self._settings
        if "betas" not in settings:
            return self._averaged("average", gradients, settings["momentum"], 1.0)
        # Algorithm 1 of arXiv:1412.6980, without the correction of the first moment, which cancels.
        first, second = settings["betas"]
        averages = self._averaged("average", gradients, first, 1.0 - first)
        squares = self._averaged("square", gradients.square(), second, 1.0 - second)
        steps = torch.arange(1, len(gradients) + 1, device=gradients.device) + self._num_steps
        self._num_steps += len(gradients)
        corrections = (1.0 - second**steps).sqrt().view(-1, *[1] * (gradients.dim() - 1))
        return averages / (squares.sqrt() / corrections + settings["eps"])

    def _averaged(self, name: str, values: torch.Tensor, decay: float, gain: float) -> torch.Tensor:
        """a_t = decay a_{t-1} + gain v_t of all steps at once, and the last one remembered."""
        if decay == 0.0:
            return gain * values
        before = self._averages.get(name, torch.zeros_like(values[0]))
        place = torch.arange(len(values), device=values.device, dtype=values.dtype)
        weights = gain * (decay ** (place.unsqueeze(1) - place).clamp_min(0)).tril()
        faded = (decay ** (place + 1)).view(-1, *[1] * before.dim()) * before
        averages = (weights @ values.flatten(1)).view_as(values) + faded
        self._averages[name] = averages[-1].clone()
        return averages
