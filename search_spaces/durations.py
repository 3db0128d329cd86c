"""Spans of time as people and schedulers write them: 90m, 8h, 1h30m, 1:30:00, and SLURM's 1-12:00:00."""

from __future__ import annotations

import re

from search_spaces.faults import show

FORMATS = "90m, 8h, 1h30m, 1:30:00 (hours, minutes, seconds) or 1-12:00:00 (days first)"
_NUMBER = r"(\d+(?:\.\d+)?)"
_WORDS = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d)")
_DAYS = re.compile(r"(\d+)-(\d+)(?::([0-5]?\d))?()")
_MOST_S = 3_650 * 86_400.0
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def seconds(text: object) -> float:
    """So many seconds. Raises ValueError for what is no span of time, is none at all, or may mean two things."""
    match = None
    if isinstance(text, str):
        typed = "".join(text.split()).lower()
        match = _CLOCK.fullmatch(typed) or _DAYS.fullmatch(typed) or (typed and _WORDS.fullmatch(typed))
    if not match:
        raise ValueError(f"got {show(text)}, expected a time such as {FORMATS}")
    found = sum(float(number or 0) * unit for number, unit in zip(match.groups(), _UNITS.values(), strict=True))
    if found > _MOST_S:
        raise ValueError(f"got {show(text)}, expected at most {words(_MOST_S)}")
    if found <= 0:
        raise ValueError(f"got {show(text)}, expected more than no time, such as {FORMATS}")
    return found


def words(span_s: float) -> str:
    """A span of time in its two largest units: `8h`, `1h30m`, `2d4h`, `45s`."""
    left, said = max(1, round(span_s)), list[str]()
    for name, unit in _UNITS.items():
        number, left = divmod(left, unit)
        said += [f"{number}{name}"] if number or said else []
    return "".join(each for each in said[:2] if not each.startswith("0"))
