"""Runs side by side: which of them share a pass, what comes of it, and where it is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from orchestrator.run import side_by_side

Measured = dict[str, float]


@dataclass
class Alone:
    """Is cut, or fails, where it is told to."""

    name: str
    fails: bool = False
    cut: bool = False
    measurements: list[Measured] = field(default_factory=list)

    def advance(self, pause: Callable[[], bool]) -> Measured | None:
        if self.fails:
            raise ValueError(self.name)
        if self.cut:
            return None
        self.measurements.append({"epoch": len(self.measurements) + 1.0})
        return self.measurements[-1]


@dataclass
class Joining(Alone):
    """Notes who shared a pass with it."""

    mates: list[list[str]] = field(default_factory=list)
    fits: bool = True

    def advance_with(
        self, others: Sequence[Joining], pause: Callable[[], bool]
    ) -> list[Measured | Exception | None] | None:
        if not self.fits:
            return None
        self.mates.append([each.name for each in others])
        return [each.advance(pause) for each in (self, *others)]


def never() -> bool:
    return False


def test_so_many_as_may_share_a_pass() -> None:
    runs = [Joining(name) for name in "abcde"]
    found = list(side_by_side.advance(runs, never, 2))
    assert found == [{"epoch": 1.0}] * 5
    assert [each.mates for each in runs] == [[["b"]], [], [["d"]], [], []]


@pytest.mark.parametrize("runs", [[Alone("a"), Alone("b")], [Joining("a", fits=False), Joining("b")], [Joining("a")]])
def test_those_that_cannot_or_do_not_fit_or_have_nobody_are_trained_alone(runs: list[Alone]) -> None:
    assert list(side_by_side.advance(runs, never, 8)) == [{"epoch": 1.0}] * len(runs)
    assert not any(getattr(each, "mates", []) for each in runs)


def test_one_that_fails_alone_says_how_and_the_next_one_is_trained() -> None:
    failed, trained = side_by_side.advance([Alone("a", fails=True), Alone("b")], never, 1)
    assert isinstance(failed, ValueError)
    assert trained == {"epoch": 1.0}


def test_after_a_cut_nobody_begins() -> None:
    begun: list[str] = []

    def runs() -> Iterator[Alone]:
        for name in "abc":
            begun.append(name)
            yield Alone(name, cut=name == "b")

    assert list(side_by_side.advance(runs(), never, 1)) == [{"epoch": 1.0}, None]
    assert begun == ["a", "b"]


def test_a_pass_that_is_cut_is_cut_for_all_of_it_and_ends_the_round() -> None:
    runs = [Joining(name, cut=True) for name in "abcd"]
    assert list(side_by_side.advance(runs, never, 2)) == [None, None]
    assert not runs[2].mates


@pytest.mark.parametrize(
    ("config", "most"), [({}, 8), ({"training": {"epochs": 3}}, 8), ({"training": {"fuse": 1}}, 1)]
)
def test_how_many_share_a_pass_is_a_setting_of_the_configuration(config: dict[str, dict[str, int]], most: int) -> None:
    assert side_by_side.at_once(config) == most
