"""Prototype calibration (PCL): every modality gathers around prototypes of the classes."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from msa_models.geometry import Geometry
from msa_models.lazy import nn, torch
from msa_models.representations import Forward
from msa_models.seams import LossTerm


@dataclass(frozen=True, kw_only=True)
class PrototypeCalibration(LossTerm):
    """L_intra = mean over m and i of -log softmax_k(cos(h_i, c_k) / tau)[y_i], PaSE (arXiv:2511.17585) [read].

    That is of accounts of the paper; the released code has the squared distance of detached features to their
    prototype, which trains nothing [read].

    Weight 0.01 [paper]; tau and how prototypes learn are settings of `prototypes`.
    """

    stacks: ClassVar[bool] = True

    weight: Annotated[float, Ge(0), Lt(inf)] = 0.01

    @property
    def reads(self) -> tuple[str, ...]:
        return ("prototypes",)

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        geometry: Geometry = forward.shared["prototypes"]
        return geometry.calibration()
