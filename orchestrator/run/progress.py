"""The live display of a run: one bar and one line of counts; a line now and then where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from orchestrator.run.campaign import Campaign
from orchestrator.run.live_study import COMPLETE, FAIL, PRUNED

PLAIN_EVERY_S, DRAW_EVERY_S = 30.0, 0.2


class Display:
    """Told after every report; draws at its own pace."""

    def __init__(self, campaign: Campaign, terminal: TextIO) -> None:
        self._campaign, self._started = campaign, time.monotonic()
        self._console = Console(file=terminal, highlight=False)
        self._plain_at = self._drawn_at = self._started
        self._progress: Progress | None = None
        self._task = TaskID(0)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the block runs; leaves the last state on the screen."""
        if not self._console.is_terminal:
            yield
            self._console.print(self._line(), soft_wrap=True)
            return
        columns = BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=self._console, expand=True) as self._progress:
            self._task = self._progress.add_task("starting workers…", total=self._campaign.num_planned)
            yield
            self._draw(self._progress)
        self._progress = None

    def update(self) -> None:
        """Take a look at the campaign, unless one was just taken: with thousands of cells it costs milliseconds."""
        if self._progress is not None:
            if time.monotonic() - self._drawn_at > DRAW_EVERY_S:
                self._drawn_at = time.monotonic()
                self._draw(self._progress)
        elif time.monotonic() - self._plain_at > PLAIN_EVERY_S:
            self._plain_at = time.monotonic()
            self._console.print(self._line(), soft_wrap=True)

    def _draw(self, progress: Progress) -> None:
        progress.update(self._task, completed=self._num_finished, description=self._line(counted=False))

    def say(self, line: str) -> None:
        """One line above the bar."""
        self._console.print(line)

    @property
    def _num_finished(self) -> int:
        return self._campaign.num_finished

    def _line(self, counted: bool = True) -> str:
        campaign, states = self._campaign, self._campaign.states
        parts = [f"{self._num_finished}/{campaign.num_planned} trials"] if counted else []
        parts += [f"{states[COMPLETE]} complete", f"{states[PRUNED]} pruned"]
        parts += [f"[red]{states[FAIL]} failed[/]"] if states[FAIL] else []
        parts += [f"{campaign.num_running} running"] if campaign.num_running else []
        parts += [f"{_num_done(campaign)} of {len(campaign.studies)} studies done"] if len(campaign.studies) > 1 else []
        parts += [f"best {campaign.best_text}"] if campaign.best_text else []
        new, elapsed_s = campaign.num_new, time.monotonic() - self._started
        if new:
            rate = new / elapsed_s
            left_s = (campaign.num_planned - self._num_finished) / rate
            parts += [f"{rate:.2f} trials/s"] + ([f"{_clock(left_s)} left"] if left_s else [])
        return " · ".join(parts)


def _num_done(campaign: Campaign) -> int:
    return sum(study.done for study in campaign.studies)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
