"""A password, token or key that a file simply says: `password: …`, `API_KEY=…`, `"client_secret": "…"`.

What it says has no mark of its own, so the name before it counts, and what cannot be meant is left out: references
(`${…}`, `{{ … }}`, paths), placeholders, the special tokens of language models, and, in code, all but quoted text.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterator

# In lower case and beginning with their letters, patterns are searched ten times as fast.
_KEYS = {
    word: re.compile(
        word + r"""(?:[-_]?(?:prod|dev|live|staging|\d))?(?:\\?["'])?\]?(?:[ \t]*(?::=|=>|[:=])[ \t]*|>(?=[^<]+</))"""
    )
    for word in ("password", "passwd", "passphrase", "pwd", "secret", "token", "key")
}
_KIND_OF_KEY = re.compile(r"(?:secret|api|access|private|auth|account|signing|encryption)[-_]?\Z")
_NAME = re.compile(r"[\w.-]*\Z", re.ASCII)
_QUOTED = re.compile(r"""\\?(["'])(?P<value>(?:(?!\\?\1).){1,300})\\?\1""")
_PLAIN = re.compile(r"""(?P<value>[^\s"',;<>]{1,300}?)(?:[,}]|[;}\])"'\\\r]*(?:[ \t]*$|[ \t]+#|</))""")
_BEFORE_A_COMMAND = re.compile(r"""(?P<value>[^\s"',;<>]{1,300})[ \t]""")
_CODE = re.compile(
    r"\.(py|pyi|pyx|ipynb|jsx?|mjs|tsx?|c|cc|cpp|cuh?|h|hpp|java|scala|kt|go|rs|rb|php|pl|swift|cs|jl|r|rmd|m|lua|sql"
    r"|tex|bib|html?|css|svg|jsonl?|csv|tsv)"
)
_JSON = (".json", ".jsonl", ".ipynb")
_NONE = re.compile(
    r"""
    [$<{(\[%*&!@`|>~\\-].*             # a variable, a template, a reference, a block, a tag of YAML, an option
    | .*(\$[({]|\{\{|\.\.\.|…|://|\*\*\*).*
    | \.{0,2}/.*                       # a path
    | (?-i:[a-z0-9_.-]+(/[a-z0-9_.@-]+)+)    # one of a vault
    | .*\.(pem|key|crt|txt|json|ya?ml|toml|env|ini|py|sh)
    | (env|vault|file|op|arn|secretsmanager|ssm|enc)\b[:\[].*
    | true|false|yes|no|none|null|undefined|string|str|required|optional
    | .*(example|placeholder|change[-_]?(me|this|it)|your|redacted|replace|dummy|insert|fake|fixme|todo|xxx).*
    | (my|the|a|some|test)?[-_]?(pass(word|wd|phrase)?|secret|token|key)s?[-_]?\d{0,4}
    """,
    re.I | re.X | re.S,
)
_SECRET = re.compile(r"""^kind:[ \t]*["']?Secret["']?[ \t]*$""", re.M)
_DATA = re.compile(r"""^(data|stringData):[ \t]*\n(?:[ \t]*#.*\n)*[ \t]+[\w.-]+:[ \t]*["']?[^\s"'{$<]""", re.M)
_HASH = re.compile(r"[0-9a-f-]+", re.I)
_OTHERS = re.compile(r"[A-Za-z0-9+/=._~:-]{10,}")  # what programs make
_SHORTEST, _LETTERS, _FAR = 6, 12, 400  # characters
_ENTROPY, _ENTROPY_IN_CODE = 3.0, 3.5  # bits a character


def first(text: str, path: str) -> tuple[int, str] | None:
    """The first line of the file at this path that says one, and the name before it; None if there is none."""
    found = sorted([*_of_kubernetes(text, path), *_said(text, posixpath.splitext(path)[1].lower())])
    for at, name in found:
        if not _passes(text[text.rfind("\n", 0, at) + 1 : _end(text, at)]):
            return text.count("\n", 0, at) + 1, f"the value of {name}"
    return None


def _said(text: str, suffix: str) -> Iterator[tuple[int, str]]:
    """Where something is said, and the name of it."""
    in_code = _CODE.fullmatch(suffix) is not None
    lower = text.encode("utf-8", "replace").lower().decode()  # of the same length, which str.lower may change
    for word, pattern in _KEYS.items():
        for key in pattern.finditer(lower):
            at = key.start()
            if word == "key" and _KIND_OF_KEY.search(lower, max(0, at - 12), at) is None:
                continue
            value = _value(text, key.end(), _end(text, key.end(), _FAR), in_code)
            if value is not None and _is_meant(word, value.strip(), suffix, in_code):
                before = _NAME.search(text, max(0, at - 40), at)
                yield at, (before[0] if before else "") + text[at : at + len(word)]


def _value(text: str, at: int, end: int, in_code: bool) -> str | None:
    """What stands there, in quotes, or, but in code, without."""
    patterns = [_QUOTED] if in_code else [_QUOTED, _PLAIN, *([_BEFORE_A_COMMAND] if text[at - 1] == "=" else [])]
    return next((found["value"] for pattern in patterns if (found := pattern.match(text, at, end))), None)


def _end(text: str, at: int, most: int | None = None) -> int:
    """Where the line ends, after so many characters at most: all of a JSON may be one."""
    limit = len(text) if most is None else min(len(text), at + most)
    end = text.find("\n", at, limit)
    return limit if end < 0 else end


def _passes(line: str) -> bool:
    """Whether its comment says that it is no secret, as for detect-secrets."""
    from detect_secrets.filters.allowlist import is_line_allowlisted
    from detect_secrets.util.code_snippet import get_code_snippet

    return is_line_allowlisted("", line, get_code_snippet([line], 1))


def _of_kubernetes(text: str, path: str) -> Iterator[tuple[int, str]]:
    """Where a manifest says what is in a Secret, whatever the names there are."""
    if path.endswith((".yaml", ".yml")) and "Secret" in text:
        begin = 0
        for document in re.split(r"(?m)^(?=---)", text):
            data = _DATA.search(document) if _SECRET.search(document) else None
            if data is not None:
                yield begin + data.start(), data[1]
            begin += len(document)


def _is_meant(key: str, value: str, suffix: str, in_code: bool) -> bool:
    """Whether this can be the value itself, and not a name, a description or what stands for it."""
    if _NONE.fullmatch(value) or len(set(value)) < 4:
        return False
    letters, digits = any(map(str.isalpha, value)), any(map(str.isdigit, value))
    if key.startswith("pass") or key == "pwd":  # people make these
        if len(value) < _SHORTEST or any(map(str.isspace, value)):
            return False
        if in_code and suffix not in _JSON:
            return letters and digits and len(value) > _SHORTEST
        return digits or re.sub(r"[\w.-]", "", value) != "" or _is_long_word(value)
    if not (letters and digits) or not _OTHERS.fullmatch(value):
        return False
    if suffix in _JSON and key == "token" and _HASH.fullmatch(value):  # what data sets call their ids
        return False
    return _entropy(value) >= (_ENTROPY_IN_CODE if in_code else _ENTROPY) and not _is_sequence(value)


def _is_long_word(value: str) -> bool:
    return value.isascii() and value.isalpha() and len(value) >= _LETTERS


def _is_sequence(value: str) -> bool:
    from detect_secrets.filters.heuristic import is_sequential_string

    return is_sequential_string(value)


def _entropy(value: str) -> float:
    """Bits a character, by how often each comes."""
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)
