"""What the JSON files of a storage must look like for others to rely on them; more may be in them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, model_validator


class _Objective(BaseModel):
    metric: str


class _Experiment(BaseModel):
    objective: _Objective


class _Study(BaseModel):
    name: str
    method: str
    dataset: str
    data_fingerprint: str
    modalities: list[str]
    config: dict[str, Any]
    space: dict[str, str]  # path to Optuna's JSON of a distribution
    leader: str | None
    planned: dict[Literal["search", "confirm"], int]


class _Corpus(BaseModel):
    scale: str = ""


class _Cell(BaseModel):
    variant: str
    dataset: str
    modalities: str
    setting: str
    study_id: str
    designs: list[str]
    removed: list[str]


class _Contrast(BaseModel):
    comparison: Literal["full", "step", "main effect", "interaction"]
    name: str
    dataset: str
    weights: dict[str, float]


class _Race(BaseModel, extra="forbid"):
    min: int = Field(ge=2)
    max: int
    until: float = Field(gt=0)
    alpha: float = Field(default=0.05, gt=0, lt=1)

    @model_validator(mode="after")
    def _has_room(self) -> _Race:
        if self.max <= self.min:
            raise ValueError("min is not below max")
        return self


class _Ablation(BaseModel):
    tuning: Literal["none", "shared", "per_variant"]
    alpha: float = Field(gt=0, lt=1)
    seeds: list[int]
    race: _Race | None
    cells: list[_Cell] = Field(min_length=1)
    contrasts: list[_Contrast]


class _Record(BaseModel):
    schema_version: int
    experiment: _Experiment
    identity: list[str]
    metrics: list[str]
    direction: Literal["minimize", "maximize"]
    studies: dict[str, _Study] = Field(default_factory=dict)
    corpora: dict[str, _Corpus] = Field(default_factory=dict)
    texts: dict[str, str] = Field(default_factory=dict)  # of corpora that a text encoder reads, by name
    encoders: dict[str, str] = Field(default_factory=dict)
    planned: dict[str, int] = Field(default_factory=dict)
    ablation: _Ablation | None = None

    @model_validator(mode="after")
    def _refers_to_what_is_there(self) -> _Record:
        for study_id, study in self.studies.items():
            if study.leader is not None and study.leader not in self.studies:
                raise ValueError(f"studies.{study_id}.leader {study.leader!r}, which is no study of it")
        for cell in self.ablation.cells if self.ablation else ():
            if cell.study_id not in self.studies or cell.dataset not in self.corpora:
                raise ValueError(f"the cell {cell.variant!r} of a study or a corpus that it does not have")
        cells = {(cell.dataset, cell.variant) for cell in self.ablation.cells} if self.ablation else set()
        for contrast in self.ablation.contrasts if self.ablation else ():
            if any((contrast.dataset, name) not in cells for name in contrast.weights):
                raise ValueError(f"the contrast {contrast.name!r} of a cell that it does not have")
        if self.ablation and any((cell.dataset, "full") not in cells for cell in self.ablation.cells):
            raise ValueError("a corpus without its full method")
        return self


class _Trial(BaseModel):
    trial_id: str
    attempts: int = 1


class _Run(BaseModel):
    started_at: AwareDatetime
    slots: int | None = None
    utilisation: float | None = None


_KINDS: dict[str, type[BaseModel]] = {"record": _Record, "trial": _Trial, "run": _Run}


def fault_of(kind: Literal["record", "trial", "run"], data: Any) -> str:
    """What is missing or wrong in experiment.json, a trial.json or a record of a run, in one line; or nothing."""
    if not isinstance(data, dict):
        return "no JSON object"
    try:
        _KINDS[kind].model_validate(data)
    except ValidationError as error:
        found = [
            (".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")) for each in error.errors()
        ]
        return " ".join("; ".join(f"{path}: {words}" if path else words for path, words in found[:3]).split())
    return ""
