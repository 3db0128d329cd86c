import math
import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.document import MAX_DEPTH, Document, parse
from search_spaces.faults import ExperimentError


def faults_of(text: str) -> list[str]:
    try:
        return [str(fault) for fault in parse(text, "x.yaml").faults]
    except ExperimentError as error:
        return str(error).splitlines()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-3", 1e-3), ("1E3", 1000.0), ("-1.5e+2", -150.0), (".5", 0.5), ("5.", 5.0), ("1.0e-4", 1e-4)),
        *(
            (".inf", math.inf),
            ("-.INF", -math.inf),
            ("7", 7),
            ("-7", -7),
            ("+7", 7),
            ("010", 10),
            ("0o10", 8),
            ("0xff", 255),
        ),
        *(("true", True), ("False", False), ("null", None), ("~", None), ("", None)),
        *(("yes", "yes"), ("off", "off"), ("1:30", "1:30"), ("2001-01-01", "2001-01-01"), ("1_000", "1_000")),
        *(("'1e-3'", "1e-3"), ('"7"', "7"), ("e3", "e3"), ("1e", "1e"), (".", "."), ("-", [None]), ("inf", "inf")),
        *(("!!str 7", "7"), ("!!float 7", 7.0), ("<<", "<<"), ("=", "=")),
    ],
)
def test_scalars_are_read_by_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    document = parse(text)
    assert (document.data, type(document.data), document.faults) == (value, type(value), [])


def test_every_value_remembers_its_line() -> None:
    document = parse("a:\n  b: 1\n  c.d:\n    - x\n    - {e: 2}\n\nf: &f\n  g: 3\nh: *f\n")
    assert document.data == {"a": {"b": 1, "c.d": ["x", {"e": 2}]}, "f": {"g": 3}, "h": {"g": 3}}
    assert document.lines == {
        **{"a": 1, "a.b": 2, "a.c.d": 3, "a.c.d.0": 4, "a.c.d.1": 5, "a.c.d.1.e": 5},
        **{"f": 7, "f.g": 8, "h": 9, "h.g": 8},
    }


def test_faults_of_a_readable_document_come_together() -> None:
    text = "a: 1\nb:\n  c: 1\n  c: 2\na: 3\n7: x\n? [x]\n: y\nd: !!python/name:os.system\ne: .nan\nf: !!int x\n"
    assert faults_of(text) == [
        "x.yaml:4: b.c: given twice, first on line 3; delete one of them",
        "x.yaml:5: a: given twice, first on line 1; delete one of them",
        "x.yaml:6: got 7 as a key, expected a word",
        "x.yaml:7: got a list or mapping as a key, expected a word",
        "x.yaml:9: d: got the tag 'tag:yaml.org,2002:python/name:os.system', expected plain values, lists and mappings",
        "x.yaml:10: e: got .nan, expected a number",
        "x.yaml:11: f: got 'x', expected what its tag 'tag:yaml.org,2002:int' says",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a:\n\tb: 1\n", "x.yaml:2: got a tab, expected spaces: YAML does not indent with tabs"),
        ("a: [1, 2\nb: 3\n", "x.yaml:2: not YAML: while parsing a flow sequence, expected ',' or ']', but got ':'"),
        ("a: 1\n b: 2\n", "x.yaml:2: not YAML: mapping values are not allowed here"),
        ("a: 'x\n", "x.yaml:2: not YAML: while scanning a quoted scalar, found unexpected end of stream"),
        ("a: *b\n", "x.yaml:1: not YAML: found undefined alias 'b'"),
        (
            "a: 1\n---\nb: 2\n",
            "x.yaml:2: not YAML: expected a single document in the stream, but found another document",
        ),
        ("a: 1\nb: \x00\n", "x.yaml:2: the character '\\x00' is not allowed in YAML"),
        ("a: &a [*a]\n", f"x.yaml:1: nested more than {MAX_DEPTH} deep, or an alias inside itself"),
        ("[" * 30_000, f"x.yaml: nested more than {MAX_DEPTH} deep"),
        ("a: " + "[" * 60 + "]" * 60, f"x.yaml:1: nested more than {MAX_DEPTH} deep, or an alias inside itself"),
    ],
)
def test_what_is_not_yaml_is_one_clear_line(text: str, fault: str) -> None:
    assert faults_of(text) == [fault]


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert faults_of("\n".join(lines)) == ["x.yaml:1: more than 50000 values, counting aliases"]


@pytest.mark.parametrize("text", ['a: "\\UFFFFFFFF"', 'a: "\\ud800"', "a: " + "9" * 5000, "%YAML 9.9\n---\na: 1"])
def test_values_that_python_cannot_hold_are_faults(text: str) -> None:
    assert len(faults_of(text)) == 1


# PyYAML writes YAML 1.1, where 0E0 is text that needs no quotes; in 1.2 it is a number.
texts = st.text(max_size=6).filter(lambda text: not re.fullmatch(r"[-+]?[.0-9]+[eE][-+]?[0-9]+", text))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc.é", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=plain)
def test_what_a_writer_of_yaml_wrote_is_read_as_it_was(data: Any) -> None:
    assert parse(yaml.safe_dump(data)).data == data


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(text=st.text("ab:-[]{}'\"!&*#|>%@`\n\t 0.e,?<\\u", max_size=40) | st.text(max_size=20))
def test_any_text_is_a_document_or_an_error(text: str) -> None:
    try:
        assert isinstance(parse(text), Document)
    except ExperimentError as error:
        (_,) = error.faults
