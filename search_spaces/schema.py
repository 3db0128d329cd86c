"""An experiment as data: what one YAML file says, validated before anything is started.

`python -m search_spaces.schema` writes its JSON Schema anew, which editors read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, MinLen
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic.json_schema import GenerateJsonSchema

from search_spaces import checks, durations
from search_spaces.ablation import Ablation, Race
from search_spaces.faults import Expects, show
from search_spaces.parts import (
    Choices,
    Config,
    Confirm,
    Data,
    Finite,
    Modalities,
    Objective,
    Part,
    Range,
    Search,
    Space,
    SpaceWords,
    SwapWords,
)

FIRST_WORD_S = 300.0  # that a worker of a busy machine may need to start and to come to the end of an epoch


def _span_of_time(text: str) -> str:
    durations.seconds(text)
    return text


def _longer_than_a_start(text: str) -> str:
    if durations.seconds(text) < FIRST_WORD_S:
        least = durations.words(FIRST_WORD_S)
        raise ValueError(
            f"got {show(text)}, expected at least {least}, as a worker says nothing while it starts and while it "
            "evaluates; take more than the longest evaluation, or null"
        )
    return text


Span = Annotated[
    str,
    AfterValidator(_span_of_time),
    Expects(f"a time such as {durations.FORMATS}"),
]


class Resources(Part):  # nothing of it changes a result, so nothing of it is part of what a study is
    """What one trial occupies, how many run at once, and for how long."""

    expects = "a mapping such as {cpu: 1, gpu: 0, max_concurrent: null}"

    cpu: Annotated[Finite, Gt(0)] = Field(
        default=1.0, description="CPU slots per trial; one thread computes in each whole one."
    )
    gpu: Annotated[Finite, Ge(0)] = Field(default=0.0, description="GPUs per trial; 0.5 shares one.")
    max_concurrent: Annotated[int, Ge(1)] | None = Field(
        default=None, description="Trials at a time; null: as many as the cluster holds."
    )
    retries: Annotated[int, Ge(0)] = Field(
        default=2, description="How often a trial starts anew whose worker or node was lost, or that may grow."
    )
    on_oom: Literal["fail", "grow"] = Field(
        default="fail", description="A trial out of memory fails, or is retried with twice the CPU slots and GPUs."
    )
    trial_time: Span | None = Field(
        default=None,
        description="Time that a trial may train, over all attempts, such as 2h or 1:30:00; null: as long as it takes. "
        "It is looked at after each step; a retry of what failed so has it once more.",
    )
    on_timeout: Literal["fail", "keep_best"] = Field(
        default="fail",
        description="A trial whose time is over fails, or is complete at its best epoch so far, with a warning.",
    )
    silent_after: Annotated[Span, AfterValidator(_longer_than_a_start)] | None = Field(
        default=None,
        description="Time without a word from a worker, such as 6h, after which it is given up and its trial starts "
        "anew, as after any lost worker; at least 5m, and longer than the longest evaluation, during "
        "which it says nothing; null: never.",
    )
    stop_after_failures: Annotated[int, Ge(0)] | None = Field(
        default=None,
        description="A run ends early once so many of its first trials have failed alike (the same error at the same "
        "place) and none has come to its end; 0: never; null: the larger of 5 and twice the trials at a time.",
    )


class Change(Part):
    """What one study of several does differently; search, seeds and corpus are those of the experiment."""

    expects = "a mapping such as {swap: {conflict_penalty: ogm_ge}}, or nothing"

    method: Annotated[str, MinLen(1), Expects("the name of a method")] | None = Field(
        default=None, description="The method of this study; left out: the experiment's."
    )
    modalities: Modalities = Field(default=None, description="Modalities of this study; left out: the experiment's.")
    swap: Annotated[
        dict[str, str | None],
        BeforeValidator(checks.mapping, json_schema_input_type=dict[str, str | None] | None),
        SwapWords,
    ] = Field(default_factory=dict, description="Laid over the experiment's swaps; null takes one of them away.")
    config: Config = Field(
        default_factory=dict,
        description="Fixed values, laid over the experiment's; what is fixed here is not searched.",
    )
    space: Annotated[
        dict[
            str,
            Annotated[
                Annotated[Range, Tag("<range>")]
                | Annotated[Choices, Tag("<choices>")]
                | Annotated[None, Tag("<null>")],
                Discriminator(checks.kind_of_entry_or_null),
            ],
        ],
        BeforeValidator(checks.mapping, json_schema_input_type=dict[str, Range | Choices | None] | None),
        SpaceWords,
    ] = Field(default_factory=dict, description="Laid over the experiment's space; null takes one of its entries away.")


Studies = Annotated[
    dict[
        Annotated[str, AfterValidator(checks.study_name)],
        Annotated[Change, BeforeValidator(checks.mapping, json_schema_input_type=Change | None)],
    ],
    Field(json_schema_extra={"propertyNames": {"pattern": checks.STUDY_NAME}}),
    Expects("a mapping of names to what each study does differently"),
]


class Experiment(Part):
    """One sweep: a method, a corpus, an objective, a space, and how much to spend on it."""

    expects = "a mapping with `method`, `data` and `objective`"

    method: Annotated[str, MinLen(1), Expects("the name of a method")] = Field(
        description="The method to train: a file name in msa_models/methods."
    )
    data: Annotated[Data, BeforeValidator(checks.from_source, json_schema_input_type=str | Data)] = Field(
        description="The corpus: `synthetic`, a path, or a mapping."
    )
    modalities: Modalities = Field(default=None, description="Modalities to use; left out: all that the corpus has.")
    objective: Objective = Field(description="What search and selection improve.")
    swap: Annotated[
        dict[str, str], BeforeValidator(checks.mapping, json_schema_input_type=dict[str, str] | None), SwapWords
    ] = Field(default_factory=dict, description="A component to the one that takes its place, with its defaults.")
    config: Config = Field(
        default_factory=dict,
        description="Fixed values on the method's configuration, nested or dotted; null removes a component.",
    )
    space: Space = Field(
        default_factory=dict,
        description="Searched values: dotted path on the method's configuration to range or choices.",
    )
    studies: Annotated[Studies, BeforeValidator(checks.mapping, json_schema_input_type=Studies | None)] = Field(
        default_factory=dict,
        description="Searches to compare under equal budgets, by name; left out: one, called full.",
    )
    search: Search = Field(default=Search(), description="How the space is searched.")
    confirm: Confirm = Field(default=Confirm(), description="The best configuration, trained again on each seed.")
    resources: Resources = Field(default=Resources(), description="What one trial occupies.")
    ablation: Annotated[Ablation, BeforeValidator(checks.mapping, json_schema_input_type=Ablation | None)] = Field(
        default=Ablation(), description="What `msa ablate` compares."
    )


def own_paths(part: type[Part] = Experiment, prefix: str = "") -> list[str]:
    """The path of everything that an experiment says beside the method's configuration: `search.sampler`, …"""
    paths = []
    for name, field in part.model_fields.items():
        kinds = [each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, type)]
        inner = next((each for each in kinds if issubclass(each, Part)), None)
        paths += own_paths(inner, f"{prefix}{name}.") if inner else [prefix + name]
    return paths


TAGS: dict[str, type[Part]] = {"<range>": Range, "<choices>": Choices, "<race>": Race}
ENTRIES: dict[str, type[Part]] = {"studies": Change, "corpora": Data}  # fields whose entries are parts themselves


JSON_SCHEMA = Path(__file__).parent / "experiment.schema.json"


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """A field's name is title enough."""
        return False


def json_schema() -> str:
    """What experiment.schema.json holds."""
    schema = Experiment.model_json_schema(schema_generator=_Untitled)
    return json.dumps({"$schema": GenerateJsonSchema.schema_dialect, **schema}, indent=2, ensure_ascii=False) + "\n"


def write_json_schema(file: Path = JSON_SCHEMA) -> None:
    """Write the schema anew."""
    file.write_text(json_schema(), encoding="utf-8")


if __name__ == "__main__":
    write_json_schema()
