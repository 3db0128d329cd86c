"""What an ablation study compares: designs, tuning, units; each of its cells is the full method with a change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from search_spaces import checks
from search_spaces.faults import Expects, ExperimentError, Fault, did_you_mean, listed
from search_spaces.parts import Data, Finite, Part, Scalar, Seed, Space

ALL = "all"
DESIGNS = ("leave_one_out", "additive", "factorial", "swap", "modalities", "sensitivity")


class Race(Part):
    """Units are added where an interval is still too wide."""

    expects = "a mapping such as {min: 5, max: 20, until: 0.02}"

    min: Annotated[int, Ge(2), Le(checks.MAX_SEEDS)] = Field(description="Units that every cell gets.")
    max: Annotated[int, Ge(3), Le(checks.MAX_SEEDS)] = Field(description="Units that no cell gets more of.")
    until: Annotated[Finite, Gt(0)] = Field(
        description="Half-width of the interval of a delta, in the unit of the objective, at which a cell has enough."
    )

    @model_validator(mode="after")
    def _has_room(self) -> Race:
        if self.max <= self.min:
            raise ValueError(f"got min {self.min} and max {self.max}, expected min below max")
        return self


Names = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(checks.all_or_names, json_schema_input_type=Literal["all"] | list[str] | None),
    AfterValidator(checks.some_named),
    Expects("all, or a non-empty list of different names such as [conflict_penalty, statistical_loss]"),
]
Swaps = Annotated[
    dict[str, tuple[str, ...]],
    BeforeValidator(checks.lists, json_schema_input_type=dict[str, str | list[str]] | None),
    AfterValidator(checks.distinct_lists),
    Expects("a mapping of components to those that take their places, such as {conflict_penalty: [ogm_ge, agm]}"),
]
Subsets = Annotated[
    tuple[tuple[str, ...], ...] | None,
    BeforeValidator(checks.subsets, json_schema_input_type=Literal["all"] | list[list[str] | str] | None),
    AfterValidator(checks.distinct_subsets),
    Expects("all, or a list of sets of modalities such as [[text], [text, audio]]"),
]
Settings = Annotated[
    dict[str, tuple[Any, ...]],
    BeforeValidator(checks.lists, json_schema_input_type=dict[str, list[Scalar]] | None),
    AfterValidator(checks.distinct_settings),
    Expects("a mapping of dotted paths to lists of values, such as {transport.epsilon: [0.01, 0.1, 1.0]}"),
]
Corpora = Annotated[
    tuple[Data, ...],
    BeforeValidator(checks.from_sources, json_schema_input_type=list[str | Data]),
    Expects("a list of corpora, each a path or a mapping with `source`"),
]
Seeds = Annotated[
    Annotated[Race, Tag("<race>")] | Annotated[tuple[Seed, ...] | None, Tag("<seeds>")],
    Discriminator(checks.kind_of_seeds),
    BeforeValidator(
        checks.counted,
        json_schema_input_type=list[Seed] | Race | None | Annotated[int, Ge(1), Le(checks.MAX_SEEDS)],
    ),
    AfterValidator(checks.some_seeds),
    Expects("a number of seeds, a list of different seeds, or {min: 5, max: 20, until: 0.02}"),
]
Units = Annotated[
    Annotated[Race, Tag("<race>")] | Annotated[Annotated[int, Ge(1), Le(checks.MAX_UNITS)] | None, Tag("<number>")],
    Discriminator(checks.kind_of_units),
    Expects(f"a number from 1 to {checks.MAX_UNITS}, or a race such as {{min: 5, max: 20, until: 0.02}}"),
]


class Factorial(Part):
    """Components present or removed in every combination, or in a fraction of them."""

    expects = "a list of components, or a mapping such as {components: [a, b, c, d, e], resolution: 5}"

    components: Annotated[
        tuple[str, ...],
        BeforeValidator(checks.as_tuple, json_schema_input_type=list[str]),
        AfterValidator(checks.distinct),
        Expects("a list of 2 to 10 different components"),
        Field(min_length=2, max_length=10),
    ] = Field(description="The factors.")
    resolution: Literal[3, 4, 5] | None = Field(
        default=None,
        description="null: all combinations. 5: the smallest fraction that tells main effects and two-way interactions "
        "apart; 4: main effects from interactions; 3: main effects from each other.",
    )


class Ablation(Part):
    """An ablation study: what each component, modality or value contributes; without any design, leave_one_out."""

    expects = "a mapping such as {leave_one_out: all, tuning: per_variant, seeds: 5}"

    leave_one_out: Names = Field(
        default=None, description="The full method minus each of these components or modalities; all: every component."
    )
    additive: Names = Field(
        default=None,
        description="The full method minus all of these components, then with one after the other put back.",
    )
    factorial: Annotated[
        Factorial | None,
        BeforeValidator(checks.of_components, json_schema_input_type=list[str] | Factorial | None),
    ] = Field(default=None, description="Components present or removed in combination: main effects, interactions.")
    swap: Swaps = Field(default_factory=dict, description="A component to those that take its place, one at a time.")
    modalities: Subsets = Field(
        default=None, description="Sets of modalities to use instead of all; all: every set that there is."
    )
    sensitivity: Settings = Field(
        default_factory=dict, description="A path on the configuration to the values it takes, one at a time."
    )
    corpora: Corpora = Field(default=(), description="Further corpora, next to `data`, on which all is done again.")
    space: Space = Field(
        default_factory=dict, description="Searched values of components that a swap brings in, for tuning per_variant."
    )
    tuning: Literal["none", "shared", "per_variant"] = Field(
        default="shared",
        description="per_variant: every cell has searches of its own, of the same budget; shared: the best "
        "configurations of the full method for all; none: fixed values and defaults for all.",
    )
    searches: Units = Field(
        default=None,
        description="Independent searches of every cell (of the full method, where tuning is shared), which are what "
        "a test counts: a number or a race; left out: 1.",
    )
    configurations: Units = Field(
        default=None,
        description="With tuning shared: at how many of the best configurations of the full method every cell is "
        "trained, which are what a test counts: a number or a race; left out: 10, or 1 with several searches or a "
        "race for seeds.",
    )
    seeds: Seeds = Field(
        default=None,
        description="Paired seeds of every cell, in each of its units, as in `confirm`; with a single unit they are "
        "what a test counts, and may be a race; left out: those of `confirm`, the first 2 of them in each of several "
        "units.",
    )
    control: bool | None = Field(
        default=None,
        description="Whether the full method is a cell once more, with other seeds everywhere: the noise that "
        "differences are read against; null: where searches or configurations are counted.",
    )
    smallest_effect: Annotated[Finite, Gt(0)] | None = Field(
        default=None,
        description="The smallest difference that matters, in the unit of the objective: what is certainly smaller "
        "is called no effect.",
    )
    alpha: Annotated[Finite, Gt(0), Lt(1)] = Field(
        default=0.05, description="Probability of any false finding among the comparisons of one kind."
    )

    @property
    def designs(self) -> tuple[str, ...]:
        """The designs that are asked for; leave_one_out where none is."""
        return tuple(name for name in DESIGNS if getattr(self, name)) or DESIGNS[:1]


def only(ablation: Ablation, names: Sequence[str]) -> Ablation:
    """The same with these designs and no others; those of everything there is need not be written down before.

    Raises ExperimentError for a name that is no design, and for a design that nothing is said of.
    """
    faults, kept = [], {}
    for name in names:
        if name not in DESIGNS:
            message = f"no design {name!r}, only {listed(DESIGNS)}{did_you_mean(name, DESIGNS)}"
            faults.append(Fault(place="--designs", message=message))
        elif value := getattr(ablation, name) or _EVERYTHING.get(name):
            kept[name] = value
        else:
            message = f"nothing to do for {name}; say what with --set ablation.{name}=…, or in the experiment"
            faults.append(Fault(place="--designs", message=message))
    if faults:
        raise ExperimentError(faults)
    nothing = {name: field.get_default(call_default_factory=True) for name, field in Ablation.model_fields.items()}
    return ablation.model_copy(update={name: kept.get(name, nothing[name]) for name in DESIGNS})


_EVERYTHING: dict[str, Any] = {"leave_one_out": (ALL,), "additive": (ALL,), "modalities": ((ALL,),)}
