import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from search_spaces import loading, schema
from search_spaces.document import parse
from search_spaces.faults import ExperimentError

SCHEMA: dict[str, Any] = json.loads(schema.JSON_SCHEMA.read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MINIMAL = {"method": "cpsl", "data": "synthetic", "objective": {"metric": "valid/mae"}}


def test_the_committed_schema_is_current() -> None:
    assert schema.JSON_SCHEMA.read_text(encoding="utf-8") == schema.json_schema()


def test_writing_it_anew_gives_what_is_committed(tmp_path: Path) -> None:
    schema.write_json_schema(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == schema.JSON_SCHEMA.read_bytes()


def test_the_schema_is_a_valid_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", loading.names())
def test_a_shipped_experiment_satisfies_the_schema_it_names(name: str) -> None:
    text = loading.find(name).read_text(encoding="utf-8")
    assert f"# yaml-language-server: $schema=./{schema.JSON_SCHEMA.name}\n" in text
    VALIDATOR.validate(parse(text).data)


@pytest.mark.parametrize(
    ("changes", "fine"),
    [
        ({}, True),
        ({"data": {"source": "x", "task": "classification"}}, True),
        ({"data": {"task": "classification"}}, False),
        ({"modalities": ["text"]}, True),
        ({"modalities": []}, False),
        ({"modalities": ["text", "text"]}, False),
        ({"modalities": None}, True),
        ({"objective": {"metric": "test/mae"}}, False),
        ({"objective": {"metric": "valid/mae", "direction": "minimize"}}, True),
        ({"config": None, "space": None}, True),
        ({"space": {"a": {"low": 1, "high": 2}, "b": {"choices": ["x", 1, None, True]}}}, True),
        ({"space": {"a": {"low": 1}}}, False),
        ({"space": {"a": {"choices": []}}}, False),
        ({"space": {"a": {"choices": [[1]]}}}, False),
        ({"space": {"a": 3}}, False),
        ({"confirm": {"seeds": 3}}, True),
        ({"confirm": {"seeds": [1, 2]}}, True),
        ({"confirm": {"seeds": [1, 1]}}, False),
        ({"confirm": {"seeds": -1}}, False),
        ({"confirm": {"seeds": 1_001}}, False),
        ({"search": {"trials": 0}}, False),
        ({"search": {"pruner": {"kind": "none"}}}, True),
        ({"resources": {"cpu": 0.5, "gpu": 0, "max_concurrent": None}}, True),
        ({"resources": {"cpu": 0}}, False),
        ({"serach": {}}, False),
        ({"swap": {"a": "b"}}, True),
        ({"swap": {"a": None}}, False),
        ({"swap": None, "studies": None}, True),
        ({"studies": {"a": {}, "b": None, "c": {"method": "x", "modalities": ["text"], "swap": {"a": "b"}}}}, True),
        ({"studies": {"a": {"config": {"x": {"y": 1}}, "space": {"x": {"low": 1, "high": 2}}}}}, True),
        ({"space": {"x": {"choices": [1]}}, "studies": {"a": {"space": {"x": None}}}}, True),
        ({"swap": {"a": "b"}, "studies": {"a": {"swap": {"a": None}}}}, True),
        ({"studies": {"a": {"space": {"x": 3}}}}, False),
        ({"studies": {"a": {"search": {}}}}, False),
        ({"studies": {"a b": {}}}, False),
        ({"studies": {"a": 3}}, False),
        ({"studies": []}, False),
    ],
    ids=str,
)
def test_an_editor_and_the_loader_agree(changes: dict[str, Any], fine: bool) -> None:
    data = MINIMAL | changes
    try:
        loading.validate(data)
        loads = True
    except ExperimentError:
        loads = False
    assert (VALIDATOR.is_valid(data), loads) == (fine, fine)
