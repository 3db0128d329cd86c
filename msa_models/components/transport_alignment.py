"""Transport alignment (CAL): the prototypes of two modalities are brought where transport between them is cheap."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from msa_models.components.transport import Couplings
from msa_models.lazy import nn, torch
from msa_models.representations import Forward
from msa_models.seams import LossTerm


@dataclass(frozen=True, kw_only=True)
class TransportAlignment(LossTerm):
    """L_inter = sum_{m<n} <Q, C> + beta ||Q - diag(u)||_F^2, PaSE (arXiv:2511.17585) [read]; 0 for a single modality.

    Weight 0.1 [paper]; Q, C, u and beta are settings of `transport`. Logs `plan_entropy`, the mean over the pairs.
    """

    stacks: ClassVar[bool] = True

    weight: Annotated[float, Ge(0), Lt(inf)] = 0.1

    @property
    def reads(self) -> tuple[str, ...]:
        return ("prototypes", "transport")

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        couplings: Couplings = forward.shared["transport"]
        if len(forward.representations) > 1:
            forward.log[f"{self.name}/plan_entropy"] = torch.as_tensor(couplings.entropy).to(forward.prediction)
        return couplings.alignment()
