"""The live display of a run: one bar and one line of counts; a line now and then where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from orchestrator.run.campaign import Campaign
from orchestrator.run.study_state import COMPLETE, FAIL, PRUNED

PLAIN_EVERY_S, DRAW_EVERY_S = 30.0, 0.2


class Live:
    """The listener of a run that people watch (see `run.output.Listener`)."""

    def __init__(self) -> None:
        self._console: Console | None = None
        self._bar: _Bar | None = None

    @contextmanager
    def encoding(self, title: str, total: int, unit: str = "texts encoded") -> Iterator[Callable[[int], None]]:
        """A bar for `total` texts, or other units, that moves by what it is told."""
        done, started = 0, time.monotonic()
        console = Console(highlight=False)
        console.print(title, soft_wrap=True)
        bar = _Bar(console, unit, lambda: (done, total, _left(done, total - done, started)))

        def advance(number: int) -> None:
            nonlocal done
            done += number
            bar.update()

        with bar.shown(""):
            yield advance

    @contextmanager
    def running(self, campaign: Campaign, terminal: TextIO) -> Iterator[None]:
        """A bar for the trials of a campaign; leaves the last state on the screen."""
        started = time.monotonic()
        self._console = Console(file=terminal, highlight=False)
        self._bar = _Bar(
            self._console,
            "trials",
            lambda: (campaign.num_finished, campaign.num_planned, _counts(campaign, started)),
        )
        with self._bar.shown("starting workers…"):
            yield
        self._bar.end()

    def updated(self) -> None:
        """The campaign has heard of something."""
        if self._bar is not None:
            self._bar.update()

    def say(self, line: str) -> None:
        """One line above the bar."""
        if self._console is not None:
            self._console.print(line)


class _Bar:
    """So many of so many, and more about it: `look` tells; asked at the pace of the screen, not of what happens."""

    def __init__(self, console: Console, unit: str, look: Callable[[], tuple[int, int, str]]) -> None:
        self._console, self._unit, self._look = console, unit, look
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._shown_at = time.monotonic()

    @contextmanager
    def shown(self, at_first: str) -> Iterator[None]:
        """Draw while the block runs, `at_first` with this text."""
        if not self._console.is_terminal:
            yield
            return
        columns = BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=self._console, expand=True) as self._progress:
            self._task = self._progress.add_task(at_first, total=self._look()[1])
            yield
            self._draw()
        self._progress = None

    def update(self) -> None:
        """Show how it is now, unless it was just shown: with thousands of cells a look costs milliseconds."""
        if time.monotonic() - self._shown_at > (PLAIN_EVERY_S if self._progress is None else DRAW_EVERY_S):
            self._shown_at = time.monotonic()
            self._draw()

    def end(self) -> None:
        """Where nothing was drawn, say how it ended."""
        if not self._console.is_terminal:
            self._draw()

    def _draw(self) -> None:
        done, total, more = self._look()
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total, description=more)
        else:
            self._console.print(" · ".join(filter(None, [f"{done}/{total} {self._unit}", more])), soft_wrap=True)


def _counts(campaign: Campaign, started: float) -> str:
    states, studies = campaign.states, campaign.studies
    parts = [f"{states[COMPLETE]} complete", f"{states[PRUNED]} pruned"]
    parts += [f"[red]{states[FAIL]} failed[/]"] if states[FAIL] else []
    parts += [f"{campaign.num_running} running"] if campaign.num_running else []
    parts += [f"{sum(study.done for study in studies)} of {len(studies)} studies done"] if len(studies) > 1 else []
    parts += [f"best {campaign.best_text}"] if campaign.best_text else []
    if campaign.num_new:
        parts.append(f"{campaign.num_new / (time.monotonic() - started):.2f} trials/s")
        parts.append(_left(campaign.num_new, campaign.num_planned - campaign.num_finished, started))
    return " · ".join(filter(None, parts))


def _left(num_done: int, num_left: int, started: float) -> str:
    """How long the rest will take at the pace so far; empty where that is unknown, or nothing is left."""
    seconds = round(num_left * (time.monotonic() - started) / num_done) if num_done else 0
    if num_left == 0 or num_done == 0:
        return ""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"
