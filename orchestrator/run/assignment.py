"""An assignment: everything a worker needs to train one trial, as plain data that survives a file and a network."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from msa_models.metrics import Direction


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One trial of one study; `params` is what the sampler suggested, `config` the whole method configuration."""

    trial_id: str
    study_id: str
    phase: str  # search | confirm
    number: int  # within the study and phase
    seed: int
    method: str
    modalities: tuple[str, ...]
    data_fingerprint: str  # of all that trials of its study can read
    params: dict[str, Any]
    config: dict[str, Any]
    metric: str  # valid/...
    direction: Direction
    rungs: tuple[int, ...]  # epochs at which the driver may prune; none for confirm trials
    keep: bool = False  # the model of the best epoch
    scale: int = 1  # of what it occupies; doubled when it ran out of memory

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The inverse of `to_json`."""
        data = json.loads(text)
        lists = {name: tuple(data[name]) for name in ("modalities", "rungs")}
        return cls(**data | lists | {"direction": Direction(data["direction"])})
