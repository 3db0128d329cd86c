"""A few bytes of a file changed, cut out, put in, repeated or cut off, for tests that read what is left."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class Damage:
    """One change of a file; `place` counts from its start, modulo its length."""

    kind: str
    place: int
    length: int
    data: bytes

    def do(self, content: bytes) -> bytes:
        place = self.place % (len(content) + 1)
        head, cut, tail = content[:place], content[place : place + self.length], content[place + self.length :]
        match self.kind:
            case "change":
                return head + self.data[: len(cut)] + cut[len(self.data) :] + tail
            case "flip":
                return head + bytes(byte ^ (1 << self.length % 8) for byte in cut[:1]) + cut[1:] + tail
            case "delete":
                return head + tail
            case "insert":
                return head + self.data + cut + tail
            case "repeat":
                return head + cut + cut + tail
        return head


def damages(words: st.SearchStrategy[bytes]) -> st.SearchStrategy[Damage]:
    """Damage to files of some thousand bytes, which now and then puts in what means something there."""
    return st.builds(
        Damage,
        kind=st.sampled_from(["change", "flip", "delete", "insert", "repeat", "truncate"]),
        place=st.integers(0, 2000) | st.integers(0, 100_000),  # names, types and shapes are mostly in the first bytes
        length=st.integers(1, 12),
        data=st.binary(max_size=6) | words,
    )
