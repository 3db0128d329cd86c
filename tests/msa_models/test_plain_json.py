"""JSON of whatever origin: what the parser of Python takes is read alike, and two things that it takes are refused."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_models.plain_json import MAX_DEPTH, parsed

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(value=values)
def test_what_was_written_is_read(value: Any) -> None:
    assert parsed(json.dumps(value)) == value
    assert parsed(json.dumps(value).encode()) == value


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 5_000, 1_000_000])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
def test_what_is_nested_deeper_than_anybody_means_is_refused(depth: int, opens: str, closes: str) -> None:
    for text in (opens * depth + "1" + closes * depth, opens * depth):
        with pytest.raises(ValueError, match=r"nested more than 100 deep|Expecting") as caught:
            parsed(text)
        assert "\n" not in str(caught.value)


def test_as_deep_as_is_allowed_is_read() -> None:
    parsed("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH)


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2, "a": 1}', '[{"b": {"a": 1, "a": 2}}]'])
def test_a_key_that_is_given_twice_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the key 'a' is given twice$"):
        parsed(text)


@pytest.mark.parametrize("text", [b"\xff", b"", "{", "1e", '"\n"', "9" * 5000])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(text)
