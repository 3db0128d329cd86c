"""The JSON Schema of an experiment, for editors: `python -m search_spaces.json_schema` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from search_spaces.schema import Experiment

FILE = Path(__file__).parent / "experiment.schema.json"


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """A field's name is title enough."""
        return False


def text() -> str:
    """What experiment.schema.json holds."""
    schema = Experiment.model_json_schema(schema_generator=_Untitled)
    return json.dumps({"$schema": GenerateJsonSchema.schema_dialect, **schema}, indent=2, ensure_ascii=False) + "\n"


def write(file: Path = FILE) -> None:
    """Write the schema anew."""
    file.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write()
