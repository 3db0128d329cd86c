"""What the JSON files of a storage hold, as typed records: experiment.json first of all.

`Record` is the only form of experiment.json: the driver makes one, readers get one, and the file is its dump. More may
be in a file than a record knows of; it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from msa_models.metrics import Direction
from orchestrator.plan.race import Race, Unit
from orchestrator.plan.seeds import Role
from orchestrator.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from orchestrator.plan.corpora import CorpusInfo
    from orchestrator.plan.plan import Grid
    from orchestrator.plan.studies import Study

FULL = "full"  # the cell of the full method


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def of(cls, data: Any) -> Self:
        """From plain data. Raises ValueError with what is missing or wrong, in one line."""
        if not isinstance(data, Mapping):
            raise ValueError("no JSON object")
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise ValueError(_one_line(error)) from error


class CorpusRecord(_Part):
    """A corpus: what planning needs of it, how it differs from others, and what to beware of; never its values.

    Empty is what an earlier version did not record, and the scale of the labels of classes.
    """

    fingerprint: str = ""
    task: str = ""
    scale: str = ""
    classes: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()  # without a split
    unimodal: tuple[str, ...] = ()  # modalities with labels of their own
    samples: dict[str, int] = Field(default_factory=dict)  # by split
    widths: dict[str, int] = Field(default_factory=dict)  # features by modality
    labels: str = ""  # a hash of all of them
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_corpus(cls, info: CorpusInfo) -> CorpusRecord:
        """The record of a corpus that was planned with."""
        return cls(**{name: getattr(info, name) for name in cls.model_fields})

    @property
    def facts(self) -> dict[str, Any]:
        """All that it says, by the names of `CorpusInfo`."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def differences(self, other: CorpusRecord) -> list[str]:
        """What tells another corpus apart, as far as both records say it; at least that its values do."""
        found = [
            f"{name} is {getattr(self, name)} there and {getattr(other, name)} here"
            for name in ("task", "scale")
            if getattr(self, name) and getattr(other, name) and getattr(self, name) != getattr(other, name)
        ]
        found += _unequal(self.samples, other.samples, "samples")
        found += _unequal(self.widths, other.widths, "features")
        if self.classes != other.classes and self.samples and other.samples:
            found.append(f"classes are {', '.join(self.classes)} there and {', '.join(other.classes)} here")
        if self.samples == other.samples and self.labels and other.labels and self.labels != other.labels:
            found.append("labels differ")
        return found or [f"its values differ: fingerprint {self.fingerprint} there and {other.fingerprint} here"]


class StudyRecord(_Part):
    """A study as it was planned; `space` by path in Optuna's JSON of a distribution."""

    name: str
    method: str
    dataset: str
    data_fingerprint: str
    modalities: tuple[str, ...]
    config: dict[str, Any]
    space: dict[str, str]
    leader: str | None  # the study whose configuration this one takes
    rank: int = 0  # which of them, 0 is the best
    replicate: int = 0  # which of the units of its cell it is
    role: Role = ""
    seeds: tuple[int, ...] = ()  # of the confirm trials, at most
    top: int = 1  # how many of the best of its search are trained once more, on `select_seeds`, before one is confirmed
    select_seeds: tuple[int, ...] = ()
    planned: dict[str, int]  # trials by phase

    @classmethod
    def planned_as(cls, study: Study) -> StudyRecord:
        """The record of a planned study."""
        from optuna.distributions import distribution_to_json

        return cls(
            name=study.variant.name,
            method=study.method,
            dataset=study.dataset,
            data_fingerprint=study.data_fingerprint,
            modalities=study.variant.modalities,
            config=dict(study.fixed),
            space={path: distribution_to_json(each) for path, each in study.distributions.items()},
            leader=study.leader,
            rank=study.rank,
            replicate=study.replicate,
            role=study.role,
            seeds=study.confirm_seeds,
            top=study.top,
            select_seeds=study.select_seeds,
            planned={**study.least, "search": study.search.trials},
        )


class CellRecord(_Part):
    """A cell of an ablation."""

    variant: str
    dataset: str
    modalities: str  # "text+audio"
    setting: str  # "transport.epsilon=0.1", or empty
    study_ids: tuple[str, ...] = Field(min_length=1)  # one for each unit; a single one, where seeds are the units
    role: Role = ""
    designs: tuple[str, ...]
    removed: tuple[str, ...]


class ContrastRecord(_Part):
    """A comparison of cells on a corpus: their weighted sum, by variant."""

    comparison: Literal["full", "step", "main effect", "interaction"]
    name: str
    dataset: str
    weights: dict[str, float]


class AblationRecord(_Part):
    """The grid of an ablation, or of several studies that are compared, for the tables."""

    tuning: Literal["none", "shared", "per_variant"]
    unit: Unit  # what the tests count
    units: int  # how many of them, at most
    seeds: tuple[int, ...]  # of the first unit; all of them, where seeds are the units
    race: Race | None
    alpha: float = Field(gt=0, lt=1)
    smallest_effect: float | None = None  # in the unit of the objective
    reference: str = FULL  # the cell that the others are compared with
    cells: tuple[CellRecord, ...] = Field(min_length=1)
    contrasts: tuple[ContrastRecord, ...]

    @classmethod
    def planned_as(cls, grid: Grid) -> AblationRecord:
        """The record of a planned grid."""
        cells = tuple(
            CellRecord(
                variant=cell.name,
                dataset=cell.study.dataset,
                modalities="+".join(cell.study.variant.modalities),
                setting=cell.alteration.setting_text,
                study_ids=tuple(study.study_id for study in cell.studies),
                role=cell.study.role,
                designs=cell.designs,
                removed=cell.alteration.removed,
            )
            for cell in grid.cells
        )
        contrasts = tuple(
            ContrastRecord(comparison=each.comparison, name=each.name, dataset=dataset, weights=dict(each.weights))
            for dataset, each in grid.contrasts
        )
        return cls(
            tuning=grid.tuning,
            unit=grid.units.unit,
            units=grid.units.number,
            seeds=grid.units.seeds,
            race=grid.units.race,
            alpha=grid.alpha,
            smallest_effect=grid.smallest_effect,
            reference=grid.reference,
            cells=cells,
            contrasts=contrasts,
        )


class Record(_Part):
    """experiment.json: the resolved experiment, what it comes to, and where its results come from."""

    schema_version: int = SCHEMA_VERSION
    experiment: dict[str, Any]  # as it was resolved, see `search_spaces.schema.Experiment`
    identity: tuple[str, ...]  # what the storage is about: the ids of its studies
    metrics: tuple[str, ...]  # without a split
    direction: Direction
    studies: dict[str, StudyRecord] = Field(default_factory=dict)
    corpora: dict[str, CorpusRecord] = Field(default_factory=dict)  # by name, in the order of the experiment
    corpus_names: dict[str, str] = Field(default_factory=dict)  # by fingerprint: whoever came first has named them
    texts: dict[str, str] = Field(default_factory=dict)  # fingerprints of corpora that a text encoder reads, by name
    encoders: dict[str, str] = Field(default_factory=dict)  # fingerprints of text encoders, by name
    planned: dict[str, int] = Field(default_factory=dict)  # trials by phase
    ablation: AblationRecord | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)  # of code and versions
    argv: tuple[str, ...] = ()
    created_at: str | None = None

    @property
    def objective(self) -> str:
        """The metric that is searched for, with its split: `valid/mae`."""
        return self.experiment["objective"]["metric"]

    @property
    def is_of_studies(self) -> bool:
        """Whether several studies were asked for, which a sweep may compare, and no ablation."""
        return bool(self.experiment.get("studies"))

    @property
    def warnings(self) -> list[str]:
        """What to beware of in its corpora."""
        return warnings_of({name: corpus.warnings for name, corpus in self.corpora.items()})

    @property
    def method(self) -> str | None:
        """The method of the experiment; its studies may have others."""
        return self.experiment.get("method")

    def plain(self) -> dict[str, Any]:
        """As JSON holds it, but for infinite values; what was never said is left out."""
        return self.model_dump(mode="json", exclude_unset=True)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        objective = self.experiment.get("objective")
        if not isinstance(objective, Mapping) or not isinstance(objective.get("metric"), str):
            raise ValueError("experiment.objective.metric is no text")
        for study_id, study in self.studies.items():
            if study.leader is not None and study.leader not in self.studies:
                raise ValueError(f"studies.{study_id}.leader {study.leader!r}, which is no study of it")
        if self.ablation is not None:
            _check_references(self, self.ablation)
        return self


class StartedRecord(_Part):
    """running/<trial_id>/trial.json: what was handed out."""

    trial_id: str
    attempts: int = 1


class RunRecord(_Part):
    """runs/<started>.json: one run of a driver."""

    started_at: AwareDatetime
    slots: int | None = None
    utilisation: float | None = None
    limit: str | None = None  # until when it trains, in words


def warnings_of(corpora: Mapping[str, Sequence[str]]) -> list[str]:
    """The warnings of corpora by name, one line each; of several corpora each begins with the name."""
    return [f"{name}: {line}" if len(corpora) > 1 else line for name, lines in corpora.items() for line in lines]


def _unequal(there: Mapping[str, int], here: Mapping[str, int], what: str) -> list[str]:
    """Where two counts by name differ; nothing where one of the two was never recorded."""
    if not there or not here:
        return []
    counts = [(name, there.get(name, "no"), here.get(name, "no")) for name in dict.fromkeys([*there, *here])]
    return [f"{name} has {old} {what} there and {new} here" for name, old, new in counts if old != new]


def _check_references(record: Record, ablation: AblationRecord) -> None:
    for cell in ablation.cells:
        if not set(cell.study_ids) <= set(record.studies) or cell.dataset not in record.corpora:
            raise ValueError(f"the cell {cell.variant!r} of a study or a corpus that it does not have")
    cells = {(cell.dataset, cell.variant) for cell in ablation.cells}
    for contrast in ablation.contrasts:
        if any((contrast.dataset, name) not in cells for name in contrast.weights):
            raise ValueError(f"the contrast {contrast.name!r} of a cell that it does not have")
    if any((cell.dataset, ablation.reference) not in cells for cell in ablation.cells):
        raise ValueError(f"a corpus without {ablation.reference}, which the others are compared with")


def _one_line(error: ValidationError) -> str:
    found = [(".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")) for each in error.errors()]
    return " ".join("; ".join(f"{path}: {words}" if path else words for path, words in found[:3]).split())
