"""The parts of an experiment: frozen mappings in which every key is known, each value checked by itself."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from search_spaces import checks
from search_spaces.faults import Expects

Seed = Annotated[int, Ge(0), Le(checks.MAX_SEED)]
Scalar = Annotated[Any, WithJsonSchema({"type": ["number", "string", "boolean", "null"]})]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """A frozen mapping in which every key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    expects: ClassVar[str]


class HoldOut(Part):
    """A validation split for a corpus that has none."""

    expects = "a mapping with `share`"

    share: Annotated[Finite, Gt(0), Lt(1)] = Field(
        description="Part of the training samples that is held out, in whole videos."
    )
    seed: Seed = Field(default=0, description="Which videos these are.")


class Data(Part):
    """The corpus to train on."""

    expects = "a path, `synthetic`, or a mapping with `source`"

    source: Annotated[str, MinLen(1), Expects("a path, or `synthetic`")] = Field(
        description="`synthetic`, or the path of a file or folder in one of the known layouts."
    )
    task: Literal["regression", "classification", "multilabel"] = Field(
        default="regression", description="What is predicted; multilabel: several labels at once, such as emotions."
    )
    target: str | None = Field(
        default=None, description="The label to predict, of a corpus with several, such as happy; null: its main one."
    )
    nonfinite: Literal["refuse", "zero"] = Field(
        default="refuse", description="What to do with NaN and infinite features: refuse the corpus, or read them as 0."
    )
    scale: Literal["auto", "mosi", "sims"] = Field(
        default="auto", description="Range of regression labels: mosi [-3, 3], sims [-1, 1], or auto from the labels."
    )
    valid: HoldOut | None = Field(
        default=None, description="What becomes the validation split of a corpus that has none; null: it has one."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Further options of the corpus' reader.")


class Objective(Part):
    """What search and selection improve: always on the validation split."""

    expects = "a mapping with `metric`, such as {metric: valid/mae}"

    metric: Annotated[
        str,
        AfterValidator(checks.validation_metric),
        Expects("a metric of the validation split, such as 'valid/mae'"),
        Field(json_schema_extra={"pattern": "^valid/."}),
    ] = Field(description="A metric of the validation split, such as valid/mae.")
    direction: Literal["minimize", "maximize"] | None = Field(
        default=None, description="Whether lower or higher is better; null: as the metric itself says."
    )


class Range(Part):
    """All numbers from low to high."""

    expects = "a range {low: 1, high: 4} or {choices: [1, 2, 4]}"

    low: Finite = Field(description="Smallest value, included.")
    high: Finite = Field(description="Largest value, included.")
    log: bool = Field(
        default=False, description="Search on a logarithmic scale, for values without a scale of their own."
    )
    step: Annotated[Finite, Gt(0)] | None = Field(
        default=None, description="Distance of neighbouring values; null: any number (1 for whole numbers)."
    )

    @model_validator(mode="after")
    def _is_searchable(self) -> Range:
        checks.searchable(self.low, self.high, self.log, self.step)
        return self


class Choices(Part):
    """A list of values."""

    expects = Range.expects

    choices: Annotated[
        tuple[Any, ...],
        BeforeValidator(checks.as_tuple, json_schema_input_type=list[Scalar]),
        Field(json_schema_extra={"minItems": 1, "uniqueItems": True}),
        AfterValidator(checks.distinct_scalars),
        Expects("a non-empty list of different numbers, words, true, false or null"),
    ] = Field(description="The values to choose from.")


class Pruner(Part):
    """When a trial that falls behind is stopped."""

    expects = "a mapping such as {kind: asha, min_epochs: 3, reduction: 3}, or {kind: none}"

    kind: Literal["asha", "none"] = Field(default="asha", description="Asynchronous successive halving, or no pruning.")
    min_epochs: Annotated[int, Ge(1)] = Field(
        default=3, description="Epochs that every trial is given: the first rung."
    )
    reduction: Annotated[int, Ge(2)] = Field(default=3, description="One in how many goes on at each rung.")
    rungs: Literal["epochs", "seeds", "both"] = Field(
        default="epochs",
        description="Where a trial of several trainings (see seeds and folds of the search) may be stopped. epochs: at "
        "epochs, all of them trained side by side; seeds: after each of them, trained one after the other; both: at "
        "epochs of the first, and after each.",
    )


class Search(Part):
    """How the space is searched."""

    expects = "a mapping such as {trials: 60, sampler: tpe, seed: 0}"

    trials: Annotated[int, Ge(1)] = Field(
        default=60, description="Number of configurations to try, at most; may be raised later."
    )
    budget: Annotated[Finite, Gt(0), Expects("a number of hours greater than 0, such as 12")] | None = Field(
        default=None,
        description="Slot-hours that the trials of a search may train, over all runs of a storage: then no more are "
        "handed out, and the best is confirmed; null: as long as they take. May be raised later.",
    )
    target: Finite | None = Field(
        default=None,
        description="A value of the objective that is good enough: once a trial has it no more are handed out, and the "
        "best is confirmed; null: none. May be changed later.",
    )
    sampler: Literal["tpe", "random"] = Field(
        default="tpe", description="Tree-structured Parzen estimator, or random search."
    )
    startup: Annotated[int, Ge(1)] = Field(
        default=10, description="Random configurations before TPE learns from results."
    )
    seed: Seed = Field(default=0, description="Seed of the sampler and of every search trial.")
    seeds: Annotated[int, Ge(1), Le(checks.MAX_MEMBERS)] = Field(
        default=1, description="Training seeds of a search trial, whose value is the mean over the best of each."
    )
    folds: Annotated[int, Ge(2), Le(checks.MAX_MEMBERS)] | None = Field(
        default=None,
        description="Folds of train and valid together, in whole videos: a search trial trains on all but each of them "
        "and is measured there, and its value is the mean; null: the corpus' own train and valid.",
    )
    batch: Annotated[int, Ge(1), Le(checks.MAX_BATCH)] = Field(
        default=1,
        description="Configurations that are suggested at once, from the same results. Those of one shape, which "
        "differ in rates, dropout and numbers of their components, are trained in one pass by one worker.",
    )
    pruner: Pruner = Field(default=Pruner(), description="When a trial that falls behind is stopped.")


Levels = BeforeValidator(checks.as_tuple, json_schema_input_type=list[float])


class Robustness(Part):
    """How confirmed models are evaluated on a test split of which something is missing, or noisy."""

    expects = "a mapping such as {missing_rates: [0.5, 1.0], noise: []}; {} for the defaults"

    missing_modalities: Literal["none", "each", "all_sets"] = Field(
        default="all_sets", description="Modalities missing from every sample: each alone, or every set; one stays."
    )
    missing_rates: Annotated[
        tuple[Annotated[Finite, Gt(0), Le(1)], ...],
        Levels,
        AfterValidator(checks.distinct),
        Expects("a list of different shares greater than 0 and of at most 1, such as [0.5, 1.0]"),
    ] = Field(
        default=tuple(each / 10 for each in range(1, 11)),
        description="Shares of the steps of sequences, or of the samples of utterance vectors, that are missing.",
    )
    noise: Annotated[
        tuple[Annotated[Finite, Gt(0)], ...],
        Levels,
        AfterValidator(checks.distinct),
        Expects("a list of different numbers greater than 0, such as [0.5, 1.0]"),
    ] = Field(
        default=(0.5, 1.0, 2.0),
        description="Standard deviations of Gaussian noise, in units of the standardised features.",
    )
    modalities: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(checks.as_tuple, json_schema_input_type=list[str] | None),
        Field(json_schema_extra={"minItems": 1, "uniqueItems": True}),
        AfterValidator(checks.some_distinct),
        Expects("a non-empty list of different modalities such as [audio, vision]"),
    ] = Field(default=None, description="Modalities that are disturbed; left out: all.")
    seed: Seed = Field(default=0, description="Of what is drawn for each sample, the same for every trial.")


class Confirm(Part):
    """The best configuration, trained again without pruning."""

    expects = "a mapping such as {seeds: 5}"

    seeds: Annotated[
        tuple[Seed, ...],
        BeforeValidator(
            checks.counted, json_schema_input_type=Annotated[int, Ge(0), Le(checks.MAX_SEEDS)] | list[Seed]
        ),
        AfterValidator(checks.distinct),
        Field(json_schema_extra={"uniqueItems": True}),
        Expects(
            f"a number of seeds from 0 to {checks.MAX_SEEDS}, or a list of different seeds from 0 to {checks.MAX_SEED}"
        ),
    ] = Field(
        default=tuple(range(1, 1 + checks.NUM_SEEDS)),
        description="How many seeds, counted on from the search's (after seed 0, 5 means 1 to 5), or a list.",
    )
    top: Annotated[int, Ge(1), Le(checks.MAX_TOP)] = Field(
        default=1,
        description="How many of the best configurations of a search are trained once more, on seeds of their own, "
        "before the best of them by the mean on valid is confirmed; 1: the best is confirmed as it is.",
    )
    top_seeds: Annotated[int, Ge(1), Le(checks.MAX_SEEDS)] = Field(
        default=3, description="On how many seeds each of them is trained, which neither search nor confirmation uses."
    )
    keep: Literal["none", "best"] = Field(
        default="none", description="best: the model of the best epoch stays in models/, of each confirm trial."
    )
    robustness: Robustness | None = Field(
        default=None,
        description="Each model on test with modalities missing or noisy, see docs/robustness.md; null: not.",
    )


Modalities = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(checks.as_tuple, json_schema_input_type=list[str] | None),
    Field(json_schema_extra={"minItems": 1, "uniqueItems": True}),
    AfterValidator(checks.some_distinct),
    Expects("a non-empty list of different modalities such as [text, audio]"),
]
Config = Annotated[
    dict[str, Any],
    BeforeValidator(checks.flat, json_schema_input_type=dict[str, Any] | None),
    Expects("a mapping of nested or dotted paths, such as {training: {epochs: 27}}"),
]
SwapWords = Expects("a mapping of components to those that take their places, such as {conflict_penalty: ogm_ge}")
SpaceWords = Expects("a mapping of dotted paths to ranges or choices")
Space = Annotated[
    dict[
        str,
        Annotated[
            Annotated[Range, Tag("<range>")] | Annotated[Choices, Tag("<choices>")],
            Discriminator(checks.kind_of_entry),
        ],
    ],
    BeforeValidator(checks.mapping, json_schema_input_type=dict[str, Range | Choices] | None),
    SpaceWords,
]
