"""Text of whatever origin as people may see it: nothing in it acts on a terminal, or on the shell it is pasted into.

Names of files, ids and errors come out of storages, corpora and clusters that others have written. What is not
printable by `str.isprintable` (C0 and C1 controls and with them ESC, marks that turn the direction of text, characters
of no width, halves of characters) is shown as an escape such as `\\x1b`.
"""

from __future__ import annotations

import os
import shlex


def one_line(text: str) -> str:
    """The same text on one line: whatever is not printable is escaped, newlines included."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def printable(text: str) -> str:
    """The same lines, which newlines alone part."""
    return "\n".join(map(one_line, text.split("\n")))


def command(*words: str) -> str:
    """A command line to be pasted: one line, each word quoted whole (bash, zsh, and any shell that has `$'…'`)."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_in_dollar_quotes, word))}'"


def _in_dollar_quotes(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    return character if character.isprintable() else "".join(f"\\{byte:03o}" for byte in os.fsencode(character))
