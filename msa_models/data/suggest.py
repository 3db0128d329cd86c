"""The line that answers an unknown name: what arrived, what is known, what was probably meant."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: object, known: Iterable[str], *, of: str = "") -> str:
    """Such as "no modality 'txt' in corpus 'mosi'; known are text, audio. Did you mean 'text'?"."""
    known = list(known)
    place = f" in {of}" if of else ""
    return f"no {kind} '{name}'{place}; known are {', '.join(known)}{did_you_mean(name, known)}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The question "Did you mean 'x'?" when a known name is close, else nothing."""
    close = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    return f". Did you mean '{close[0]}'?" if close else ""
