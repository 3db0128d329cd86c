"""Text of whatever origin as people may see it, and command lines that they may paste."""

import os
import shlex
import subprocess

import pytest

from msa_models.printable import command, one_line, printable

ACTING = "\x1b[31m\x9b2J\x07\r\t\x7f\u202e\u2066\u200b\ufeff\u2028\udcff"
NAMES = ["runs/mosi", "my runs", "it's", '"', "$(touch x)", "`id`", "a;b|c&d", "\\n", "$'x'", "!!", "~", "", "心", "é"]


def test_nothing_that_acts_on_a_terminal_is_left_and_everything_else_is() -> None:
    shown = one_line(f"a{ACTING}\nb 心 é")
    assert shown.isprintable()
    assert shown == r"a\x1b[31m\x9b2J\x07\r\t\x7f\u202e\u2066\u200b\ufeff\u2028\udcff\nb 心 é"


def test_of_several_lines_newlines_alone_part_them() -> None:
    assert printable(f"a\n{ACTING}\n\nb").split("\n") == ["a", one_line(ACTING), "", "b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_command_line_is_parsed_back_to_its_words(name: str) -> None:
    assert shlex.split(command("msa", "resume", name)) == ["msa", "resume", name]


def test_a_shell_parses_back_what_no_terminal_may_see() -> None:
    names = [*NAMES, f"a{ACTING}\nb", "'\\\x1b'", "\x1b0", "\n"]
    line = command("printf", r"%s\0", *names)
    assert line.isprintable()
    told = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True).stdout
    assert told.split(b"\0")[:-1] == [os.fsencode(name) for name in names]
