"""A pretrained encoder as plain data, which travels to every node once: nobody but the driver needs its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Pretrained:
    """The architecture and the weights of an encoder.

    config       of its architecture, as `transformers` writes config.json
    weights      name in the state dict of its `AutoModel` -> float32 array, possibly read-only shared memory
    fingerprint  hash (16 hexadecimal digits) of the weights and the tokenizer
    """

    name: str
    fingerprint: str
    config: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]
    width: int  # of its hidden states
