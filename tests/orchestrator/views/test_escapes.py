"""Text in csv, LaTeX, Markdown, HTML and JSON: it is shown there, and does nothing there."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from orchestrator.views import escapes
from orchestrator.views.table import Table, render

TEXTS = [
    *("=cmd()|'/c calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1", "x;=1", "-0.5", "+ gate", "it's"),
    *("</script><script>alert(1)</script>", "<img src=x onerror=y>", "&lt;b&gt; & co", '" onload="'),
    *(r"\input{/etc/passwd}", "$x^2$ {y} 50% #1 a~b", "[x", "*x", "a_b", "100 % < 2 > 1 ± 3 × 4"),
    *("[a](javascript:b)", "![a](b)", "*a* **b** _c_ `d` ~~e~~", "f1_weighted", "a|b", "# a", "> a", "- a", "1. a"),
    *("\x1b[31m\u202e", "two\nlines", "心 é"),
]
TABLE = Table(headers=("name", "value"), rows=tuple((text, 0.5) for text in TEXTS))


@pytest.mark.parametrize("text", TEXTS)
def test_a_cell_of_csv_is_read_back_and_is_no_formula(text: str) -> None:
    line = escapes.csv_cell(text)
    ((found, *others),) = csv.reader(io.StringIO(line))
    assert not others
    assert line.isprintable()
    assert not re.match("[=+@＝\\t\\r-]", found) or float(found) is not None
    assert found.removeprefix("'") == escapes.one_line(text)
    assert ";" not in line or line.startswith('"')  # which parts cells in some locales


def test_numbers_in_csv_stay_numbers() -> None:
    assert [escapes.csv_cell(each) for each in (-0.5, 1e-05, -3, None, "-0.5")] == ["-0.5", "1e-05", "-3", "", "-0.5"]
    assert escapes.csv_cell("-a") == "'-a"


@pytest.mark.parametrize("text", TEXTS)
def test_what_latex_reads_as_a_command_is_one_that_writes_a_character(text: str) -> None:
    written = escapes.latex(text)
    assert written.isprintable()
    allowed = r"\\(textbackslash\{\}|textasciitilde\{\}|\^\{\}|ensuremath\{[<>]\}|[&%$#_{}])|\$\\(pm|times)\$"
    assert not re.search(r"[\\&%$#_{}~^]", re.sub(allowed, "", written))


def test_no_row_of_latex_is_taken_for_an_argument_of_the_row_before() -> None:
    lines = render(TABLE, "latex").splitlines()
    after = [line for before, line in pairwise(lines) if before.endswith(r"\\")]
    assert len(after) > len(TEXTS)  # \midrule is among them
    assert not [line for line in after if line.strip()[0] in "[*"]


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_is_rendered_as_the_text(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shown = escapes.one_line(text)
    assert _shown(parser.render(escapes.markdown(text))) == (["p"], shown)
    tags, inside = _shown(parser.render(f"| a | b |\n| --- | --- |\n| {escapes.markdown(text)} | 1 |"))
    assert tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert "".join(inside.split()) == "".join(f"ab{shown}1".split())


def test_names_of_metrics_stay_as_they_are_in_markdown() -> None:
    assert escapes.markdown("valid/f1_weighted (p < 0.05) & -0.5") == "valid/f1_weighted (p < 0.05) & -0.5"


@pytest.mark.parametrize("text", TEXTS)
def test_html_is_rendered_as_the_text_in_elements_and_attributes(text: str) -> None:
    tags, inside = _shown(f'<p title="{escapes.html(text)}">{escapes.html(text)}</p>')
    assert (tags, inside) == (["p"], escapes.one_line(text))


def test_json_is_the_same_values_in_printable_text() -> None:
    for indent in (None, 1):
        written = escapes.json_text({text: [text] for text in TEXTS}, indent)
        assert json.loads(written) == {text: [text] for text in TEXTS}
        assert all(line.isprintable() for line in written.split("\n"))
        assert "心 é" in written


@pytest.mark.parametrize("end", ["\\input{x}", "two\n\\input{x}", "a\r\\input{x}"])
def test_captions_and_warnings_stay_in_the_comment_that_they_are_in(end: str) -> None:
    lines = render(Table(headers=("a",), rows=((1,),), caption=end, warnings=(end,)), "latex").split("\n")
    assert not [line for line in lines if "input" in line and not line.startswith("% ")]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert all(name == "title" for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def _shown(html: str) -> tuple[list[str], str]:
    """The tags of HTML in their order, and its text."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.tags, reader.text.strip("\n")
