"""An experiment as data: what one YAML file says, validated before anything is started.

`python -m search_spaces.schema` writes its JSON Schema anew, which editors read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, get_args

from annotated_types import MinLen
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic.json_schema import GenerateJsonSchema

from search_spaces import checks
from search_spaces.ablation import Ablation, Race
from search_spaces.expectation import Expects
from search_spaces.parts import (
    Choices,
    Config,
    Confirm,
    Data,
    Modalities,
    Objective,
    Part,
    Range,
    Search,
    Space,
    SpaceWords,
    SwapWords,
)
from search_spaces.resources import Resources


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
