"""One table, five formats."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from orchestrator.views.table import (
    FORMATS,
    Interval,
    Marked,
    MeanSd,
    Signed,
    Table,
    blocks,
    render,
    transposed,
    warning,
)

TABLE = Table(
    headers=("study", "learning_rate", "seeds", "valid/mae"),
    rows=(
        ("a_b & 50% | c", 1e-5, 5, MeanSd(mean=0.71234567, sd=0.0123456, n=5)),
        ("b", None, 1, MeanSd(mean=0.8, sd=None, n=1)),
    ),
    caption="Best of\nall",
)


def test_the_screen_shows_rounded_numbers_right_aligned_under_a_caption() -> None:
    assert render(TABLE).splitlines() == [
        "Best of all",
        "",
        "study            learning_rate    seeds        valid/mae",
        "-------------  ---------------  -------  ---------------",
        "a_b & 50% | c        1.000e-05        5  0.7123 ± 0.0123",
        "b                            -        1           0.8000",
    ]


def test_markdown_escapes_the_bar_so_that_every_row_has_as_many_cells() -> None:
    lines = render(TABLE, "markdown").splitlines()
    assert lines[0] == "Best of all"
    assert r"a_b & 50% \| c" in lines[4]
    assert {line.replace(r"\|", "").count("|") for line in lines[2:]} == {5}


def test_latex_escapes_what_latex_reads_and_sets_the_plus_minus() -> None:
    text = render(TABLE, "latex")
    assert r"a\_b \& 50\% | c" in text
    assert r"learning\_rate" in text
    assert r"0.7123 $\pm$ 0.0123" in text
    assert text.startswith("% Best of all\n\\begin{tabular}")
    assert r"\toprule" in text


def test_csv_carries_unrounded_numbers_and_a_column_each_for_mean_and_sd() -> None:
    rows = list(csv.DictReader(io.StringIO(render(TABLE, "csv"))))
    assert rows[0] == {
        "study": "a_b & 50% | c",
        "learning_rate": "1e-05",
        "seeds": "5",
        "valid/mae mean": "0.71234567",
        "valid/mae sd": "0.0123456",
    }
    assert (rows[1]["learning_rate"], rows[1]["valid/mae sd"]) == ("", "")


def test_json_carries_unrounded_numbers_and_null_for_what_is_missing_or_not_finite() -> None:
    table = Table(headers=("a", "b", "c"), rows=((math.nan, None, MeanSd(mean=0.71234567, sd=None, n=1)),), caption="x")
    row = {"a": None, "b": None, "c": {"mean": 0.71234567, "sd": None, "n": 1}}
    assert json.loads(render(table, "json")) == {"caption": "x", "rows": [row], "warnings": []}


LONG = "vision: valid gain does not carry over to test (ridge probe: Corr 0.754 on valid, 0.012 on test)"


@pytest.mark.parametrize(
    ("format", "end"),
    [
        ("markdown", f"\n\n> warning: {LONG}"),
        ("latex", f"\n% warning: {LONG}"),
        ("json", f'"warnings": [\n  "{LONG}"\n ]\n}}'),
    ],
)
def test_warnings_stand_below_a_table(format: str, end: str) -> None:
    table = Table(headers=("a",), rows=((1,),))
    assert render(replace(table, warnings=(LONG,)), format).startswith(render(table, format)[:-4])
    assert render(replace(table, warnings=(LONG,)), format).endswith(end)


def test_what_is_to_be_typed_is_not_broken_at_a_hyphen() -> None:
    what = "text_encoder.name=bert-base-uncased"
    assert what in warning(f"{60 * 'x'} --set {what}, or any other encoder")


def test_on_the_screen_a_warning_fits_80_columns() -> None:
    text = render(Table(headers=("a",), rows=((1,),), warnings=(LONG,)))
    assert max(map(len, text.splitlines())) <= 80
    assert " ".join(text.split()).endswith(f"1 warning: {LONG}")


def test_csv_has_values_and_nothing_else() -> None:
    table = Table(headers=("a",), rows=((1,),), warnings=(LONG,))
    assert render(table, "csv") == "a\n1\n"


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_without_rows_still_renders_its_headers(format: str) -> None:
    text = render(Table(headers=("rank", "value"), rows=(), caption="nothing yet"), format)
    assert text.strip()
    assert format == "json" or "rank" in text


def test_an_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no table format 'html'; this program has plain, markdown, latex, csv, json"):
        render(TABLE, "html")


def test_a_transposed_table_has_one_column_per_row_and_every_cell() -> None:
    table = Table(
        headers=("rank", "trial", "value"), rows=((1, 7, 0.5), (2, 3, MeanSd(mean=0.6, sd=0.1, n=2))), caption="c"
    )
    turned = transposed(table)
    assert turned.headers == ("rank", "1", "2")
    assert turned.rows == (("trial", 7, 3), ("value", 0.5, MeanSd(mean=0.6, sd=0.1, n=2)))
    assert turned.caption == "c"
    assert transposed(Table(headers=("rank", "trial"), rows=())).rows == (("trial",),)


def test_a_wide_table_is_cut_into_blocks_that_fit_and_keep_every_column_once() -> None:
    headers = ("metric", *(f"study {number}" for number in range(9)))
    table = Table(headers=headers, rows=(("mae", *(MeanSd(mean=0.7, sd=0.1, n=5) for _ in range(9))),), caption="c")
    parts = blocks(table, width=60)
    assert [part.caption for part in parts] == ["c", *[""] * (len(parts) - 1)]
    assert all(part.headers[0] == "metric" for part in parts)
    assert [header for part in parts for header in part.headers[1:]] == list(headers[1:])
    assert [cell for part in parts for cell in part.rows[0][1:]] == list(table.rows[0][1:])
    assert max(len(line) for part in parts for line in render(part).splitlines()) <= 60
    assert len(parts) == 3
    assert blocks(table, width=200) == [table]


def test_a_column_wider_than_the_screen_stands_alone() -> None:
    table = Table(headers=("a", "b", "c"), rows=(("x", "y" * 50, "z"),))
    assert [part.headers for part in blocks(table, width=20)] == [("a", "b"), ("a", "c")]
    assert blocks(Table(headers=("a",), rows=()), width=1) == [Table(headers=("a",), rows=())]


PAPER = Table(
    headers=("a_b", "delta", "95 % CI", "test/mae"),
    rows=(
        ("full & all", None, None, Marked(cell=MeanSd(mean=0.71234567, sd=0.0123456, n=5), bold=True)),
        ("no #1", Signed(value=0.05), Interval(low=-0.0123456, high=0.25), Marked(cell=0.75, mark="**")),
    ),
    caption="Best of\n50 % & more, p < 0.05",
    label="tab:paper",
)


def test_differences_show_their_sign_and_marks_stand_behind_the_number() -> None:
    assert render(PAPER).splitlines() == [
        "Best of 50 % & more, p < 0.05",
        "",
        "a_b           delta             95 % CI         test/mae",
        "----------  -------  ------------------  ---------------",
        "full & all        -                   -  0.7123 ± 0.0123",
        "no #1       +0.0500  [-0.0123, +0.2500]         0.7500**",
    ]


def test_markdown_has_bold_cells_and_marks_that_are_not_taken_for_bold() -> None:
    lines = render(PAPER, "markdown").splitlines()
    assert "| **0.7123 ± 0.0123** |" in lines[4]
    assert r"0.7500\*\* |" in lines[5]


def test_a_paper_s_table_is_a_whole_float_in_latex_with_everything_escaped() -> None:
    assert render(PAPER, "latex").splitlines() == [
        r"% \usepackage{booktabs, adjustbox}",
        r"\begin{table}[t]",
        r"\centering",
        r"\caption{Best of 50 \% \& more, p \ensuremath{<} 0.05}",
        r"\label{tab:paper}",
        r"\begin{adjustbox}{max width=\textwidth}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r" a\_b        &     delta &             95 \% CI &                     test/mae \\",
        r"\midrule",
        r" full \& all &         - &                    - & \textbf{0.7123 $\pm$ 0.0123} \\",
        r" no \#1      & $+0.0500$ & $[-0.0123, +0.2500]$ &                     0.7500** \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{adjustbox}",
        r"\end{table}",
    ]


def test_csv_and_json_have_the_numbers_of_marked_cells_and_neither_bold_nor_marks() -> None:
    rows = list(csv.DictReader(io.StringIO(render(PAPER, "csv"))))
    assert list(rows[0].values()) == ["full & all", "", "", "", "0.71234567", "0.0123456"]
    assert rows[1] == {
        "a_b": "no #1",
        "delta": "0.05",
        "95 % CI low": "-0.0123456",
        "95 % CI high": "0.25",
        "test/mae mean": "0.75",
        "test/mae sd": "",
    }
    first, second = json.loads(render(PAPER, "json"))["rows"]
    assert first == {
        "a_b": "full & all",
        "delta": None,
        "95 % CI": None,
        "test/mae": {"mean": 0.71234567, "sd": 0.0123456, "n": 5},
    }
    assert second == {"a_b": "no #1", "delta": 0.05, "95 % CI": {"low": -0.0123456, "high": 0.25}, "test/mae": 0.75}
