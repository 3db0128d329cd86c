"""What people see of a run while it goes on, at a terminal and elsewhere."""

import io
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.run.campaign import Campaign
from orchestrator.run.output import Listener, Silent
from orchestrator.store import Store
from orchestrator.views import live
from orchestrator.views.bars import Progress
from orchestrator.views.live import Live
from tests.orchestrator.run import fakes
from tests.patience import wait_until


class Terminal(io.StringIO):
    """A screen."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have gone by, for the test to change."""
    now = [0.0]
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(live, "LOOK_EVERY_S", 3_600.0)
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


def test_without_a_terminal_there_is_a_line_at_the_start_now_and_then_at_changes_of_phase_and_at_the_end(
    tmp_path: Path, clock: list[float]
) -> None:
    screen = io.StringIO()
    played(tmp_path, Live(), screen, clock, 16.0)
    first, *between, last, told = screen.getvalue().splitlines()
    assert first == "0/6 trials · search 0/4, confirm 0/2 · 0 complete · 0:00"
    assert "2/6 trials · search 2/4, confirm 0/2 · 2 complete · best valid/mae 0." in between[0]
    assert between[0].endswith(" · 16.0 s/trial · 1:04 left")
    assert any(" trials · search 4/4, confirm 0/2 · " in line for line in between)
    assert told == "that was all"
    assert last.startswith("6/6 trials · search 4/4, confirm 2/2 · 5 complete · 1 failed · best valid/mae ")
    assert last.endswith(" s/trial")


def test_a_short_run_without_a_terminal_is_a_line_for_each_phase(tmp_path: Path, clock: list[float]) -> None:
    screen = io.StringIO()
    played(tmp_path, Live(), screen, clock, 0.001)
    lines = [line for line in screen.getvalue().splitlines() if " trials · " in line]
    assert [line.partition(" ")[0] for line in lines] == ["0/6", "4/6", "6/6"]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_terminal_has_a_bar_for_each_phase_and_lines_that_fit(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Terminal()
    played(tmp_path, Live(), screen, clock, 1.0)
    shown = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in screen.getvalue().splitlines()]
    assert "that was all" in shown
    begun = max(index for index, line in enumerate(shown) if line.startswith("search  "))
    search, confirm, *below = (line for line in shown[begun:] if line)
    assert (search[8], search[-4:]) == ("━", " 4/4")
    assert confirm.startswith("confirm ━")
    assert re.fullmatch(
        r"6/6 trials · 0:06 · 1.0 s/trial · 5 complete · 1 failed · best valid/mae 0\.\d{4}", " · ".join(below)
    )
    assert max(len(line) for line in shown) < columns


def test_a_terminal_says_what_is_waited_for_and_a_resume_what_is_finished(tmp_path: Path, clock: list[float]) -> None:
    planned = fakes.studies(search={"trials": 4, "startup": 4, "pruner": {"kind": "none"}}, confirm={"seeds": 2})
    fakes.play(str(tmp_path), planned)
    store = Store.open(tmp_path)
    store.files.delete(f"trials/{next(name for name in store.files.names('trials') if '-' not in name)}")
    screen, listener = Terminal(), Live()
    with listener.running(Campaign(store, planned, fakes.PROVENANCE), screen):
        clock[0] += 65.0
        listener.waits("Ray to start")
        clock[0] += 75.0
        listener.waits("Ray to start")
    assert re.search(r"search  \S+━\S+ 4/4", screen.getvalue())
    assert "5/6 trials" in screen.getvalue()
    assert "waiting for Ray to start, 1:15" in screen.getvalue()


def test_without_a_terminal_a_long_wait_is_a_line_now_and_then_as_is_an_epoch_that_takes_long(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_EVERY_S", 0.001)
    planned = fakes.studies(search={"trials": 4, "startup": 4, "pruner": {"kind": "none"}}, confirm={"seeds": 2})
    campaign = Campaign(Store.create(tmp_path, fakes.record(planned)), planned, fakes.PROVENANCE)
    screen, listener = io.StringIO(), Live()

    def said_after(seconds: float) -> str:
        num_lines = screen.getvalue().count("\n")
        clock[0] += seconds
        wait_until(lambda: screen.getvalue().count("\n") > num_lines)
        return screen.getvalue().splitlines()[-1]

    with listener.running(campaign, screen):
        listener.waits("Ray to start")
        assert said_after(31.0) == "still waiting for Ray to start, 0:31"
        assert said_after(31.0) == "still waiting for Ray to start, 1:02"
        listener.waits("")
        assert said_after(31.0) == "0/6 trials · search 0/4, confirm 0/2 · 0 complete · 1:33"
    assert screen.getvalue().splitlines()[1] == "waiting for Ray to start · 0:00"


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"FORCE_COLOR": "1"}])
def test_what_is_no_screen_gets_no_escape_codes(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    screen = io.StringIO() if "FORCE_COLOR" in environment else Terminal()
    played(tmp_path, Live(), screen, clock, 1.0)
    assert "\x1b" not in screen.getvalue()
    assert screen.getvalue().count(" trials · ") >= 3


def test_colours_are_left_out_where_no_color_asks_for_none(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Terminal()
    played(tmp_path, Live(), screen, clock, 1.0)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", screen.getvalue())


def test_looking_at_a_campaign_takes_little_of_the_time(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = [], Progress.of

    def costly(campaign: Campaign) -> Progress:
        clock[0] += 1.0
        looks.append(1)
        return look(campaign)

    monkeypatch.setattr(live.Progress, "of", costly)
    num_reports = len(played(tmp_path / "short", Live(), Terminal(), clock, 0.001).studies[0].past)
    assert num_reports > 2
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
        "4/12 texts encoded · 1:00 · 2:00 left",
        "8/12 texts encoded · 2:00 · 1:00 left",
        "12/12 texts encoded · 3:00",
    ]


def test_a_run_that_nobody_watches_is_silent(
    tmp_path: Path, clock: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    screen = Terminal()
    assert played(tmp_path, Silent(), screen, clock, 60.0).num_new == 6
    encoded(Silent().encoding, clock)
    assert (screen.getvalue(), *capfd.readouterr()) == ("", "", "")
