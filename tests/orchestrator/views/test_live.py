"""What people see of a run while it goes on, at a terminal and elsewhere."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from orchestrator.run.campaign import Campaign
from orchestrator.run.output import Listener, Silent
from orchestrator.store import Store
from orchestrator.views import live
from orchestrator.views.live import Live
from tests.orchestrator.run import fakes


class Terminal(io.StringIO):
    """A screen."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have gone by, for the test to change."""
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("TERM", "xterm")
    return now


def played(uri: Path, listener: Listener, screen: io.StringIO, clock: list[float], trial_s: float) -> Campaign:
    """A whole run, each of whose reports takes so many seconds, one trial at a time."""
    planned = fakes.studies(search={"trials": 4, "startup": 4, "pruner": {"kind": "none"}}, confirm={"seeds": 2})
    campaign = Campaign(Store.create(uri, fakes.record(planned)), planned, fakes.PROVENANCE)
    with listener.running(campaign, screen):
        while (assignment := campaign.next()) is not None:
            runner = fakes.TrialRunner(assignment, fakes.corpus(), Store.open(uri), fakes.failing_toy)
            over = False
            while not over:
                over = campaign.report(assignment.trial_id, runner.stretch())
                clock[0] += trial_s
                listener.updated()
        listener.say("that was all")
    return campaign


def test_without_a_terminal_there_is_a_line_now_and_then_and_one_at_the_end(tmp_path: Path, clock: list[float]) -> None:
    screen = io.StringIO()
    played(tmp_path, Live(), screen, clock, 16.0)
    first, *_, told, last = screen.getvalue().splitlines()
    assert first.startswith("2/6 trials · 2 complete · 0 pruned · best valid/mae ")
    assert first.endswith(" · 0.06 trials/s · 1:04 left")
    assert told == "that was all"
    assert last.startswith("6/6 trials · 5 complete · 0 pruned · 1 failed · best valid/mae ")
    assert last.endswith(" trials/s")


def test_a_short_run_without_a_terminal_is_one_line(tmp_path: Path, clock: list[float]) -> None:
    screen = io.StringIO()
    played(tmp_path, Live(), screen, clock, 0.001)
    assert screen.getvalue().count(" trials · ") == 1


def test_a_terminal_has_a_bar_with_the_counts_and_the_lines_above_it(tmp_path: Path, clock: list[float]) -> None:
    screen = Terminal()
    played(tmp_path, Live(), screen, clock, 1.0)
    shown = screen.getvalue()
    assert "starting workers…" in shown
    assert "that was all" in shown
    assert "6/6" in shown
    assert "━" in shown
    assert shown.rindex("5 complete") > shown.index("that was all")


def test_the_bar_is_drawn_at_the_pace_of_the_screen_not_of_the_reports(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    monkeypatch.setattr(live, "_counts", lambda *_: looks.append(1) or "")
    played(tmp_path, Live(), Terminal(), clock, 0.0)
    assert len(looks) == 2  # at its beginning and at its end


def encoded(counted: Callable[[str, int], AbstractContextManager[Callable[[int], None]]], clock: list[float]) -> None:
    """Twelve texts, four at a time, a minute each time."""
    with counted("encoding 12 texts with bert", 12) as advance:
        for _ in range(3):
            clock[0] += 60.0
            advance(4)


def test_encoding_names_what_is_encoded_and_says_how_far_it_is(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    encoded(Live().encoding, clock)
    assert capsys.readouterr().out.splitlines() == [
        "encoding 12 texts with bert",
        "4/12 texts encoded · 2:00 left",
        "8/12 texts encoded · 1:00 left",
        "12/12 texts encoded",
    ]


def test_a_run_that_nobody_watches_is_silent(
    tmp_path: Path, clock: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    screen = Terminal()
    assert played(tmp_path, Silent(), screen, clock, 60.0).num_new == 6
    encoded(Silent().encoding, clock)
    assert (screen.getvalue(), *capfd.readouterr()) == ("", "", "")
