"""The live display of a run: bars and counts that stay in place; a line now and then where there is no terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import rich.live
from rich.console import Console, ConsoleDimensions
from rich.text import Text

from msa_models.printable import one_line
from orchestrator.run.campaign import Campaign
from orchestrator.views.bars import Progress, bars, clock, fitted, wrapped

TICKS_PER_S = 2.0
LOOK_COSTS = 20.0  # times as long as a look takes, it is not repeated: 5 % of the time
PLAIN_AT_LEAST_S, PLAIN_AT_MOST_S, PLAIN_SHARE = 30.0, 600.0, 0.05  # of the time so far: a night is 100 lines, not 1000
LOOK_EVERY_S = 1.0  # whether it is time for one though nothing has happened
_MARGIN = 4  # columns that stay free, for the ^C that a terminal writes where the cursor is


class Live:
    """The listener of a run that people watch (see `run.output.Listener`)."""

    def __init__(self) -> None:
        self._run: _Run | None = None

    @contextmanager
    def encoding(self, title: str, total: int, unit: str = "texts encoded") -> Iterator[Callable[[int], None]]:
        """A bar for `total` texts, or other units, that moves by what it is told."""
        done, display = 0, _Display(sys.stdout)

        def times() -> list[str]:
            elapsed_s, left = display.elapsed_s, total - done
            return [clock(elapsed_s), *([f"{clock(left * elapsed_s / done)} left"] if done and left else [])]

        def drawn(width: int) -> list[Text]:
            (bar,) = bars({unit: (done, total)}, width)
            return [bar, *wrapped(times(), width)]

        def line() -> str:
            return f"{done}/{total} {unit} · {' · '.join(times())}"

        def advance(number: int) -> None:
            nonlocal done
            done += number
            if done >= total or display.is_due:
                display.tell(line())

        display.say(title)
        with display.shown(drawn, line):
            yield advance

    @contextmanager
    def running(self, campaign: Campaign, terminal: TextIO) -> Iterator[None]:
        """Bars for the trials of a campaign; leaves the last state on the screen."""
        self._run = _Run(campaign, _Display(terminal))
        with self._run.shown():
            yield

    def waits(self, what: str) -> None:
        """The run waits for this before it can go on; for nothing any more where it is empty."""
        if self._run is not None:
            self._run.waits(what)

    def updated(self, *, trials: bool = False) -> None:
        """The campaign has changed."""
        if self._run is not None:
            self._run.updated(trials)

    def say(self, line: str) -> None:
        """One line above the bars."""
        if self._run is not None:
            self._run.display.say(line)


class _Run:
    """What is shown of a campaign: looked at by whoever changes it, drawn from what was seen.

    So the thread that draws, for the clocks to go on, never looks at a campaign that is being changed.
    """

    def __init__(self, campaign: Campaign, display: _Display) -> None:
        self._campaign, self.display = campaign, display
        self._waits, self._since = "", time.monotonic()
        self._trains_since: float | None = None
        self._told: Progress | None = None
        self._over = False
        self._look()

    @contextmanager
    def shown(self) -> Iterator[None]:
        self._tell()
        with self.display.shown(self._drawn, self._alive):
            try:
                yield
            finally:
                self._look()
                self._over = True
        if self._seen != self._told:
            self._tell()

    def waits(self, what: str) -> None:
        what = one_line(what)
        if not what and self._trains_since is None:  # the first stretch is just over
            self._trains_since = self._since
        if what != self._waits:
            self._waits, self._since = what, time.monotonic()
        if what:
            self.display.tell(f"waiting for {what} · {clock(self.display.elapsed_s)}")
            self.display.refresh()

    def updated(self, trials: bool) -> None:
        """Look again; for less than another trial only where that takes little of the time.

        With thousands of cells a look costs milliseconds, and an epoch may be as short.
        """
        if not trials and time.monotonic() < self._next_look:
            return
        self._look()
        if self._told is None or self._seen.stage != self._told.stage or self.display.is_due:
            self._tell()

    def _look(self) -> None:
        began = time.monotonic()
        self._seen = Progress.of(self._campaign)
        self._next_look = time.monotonic() + LOOK_COSTS * (time.monotonic() - began)

    def _tell(self) -> None:
        self._told = self._seen
        self.display.tell(self._line())

    @property
    def _times(self) -> list[str]:
        began = self._since if self._trains_since is None else self._trains_since
        return self._seen.times(self.display.elapsed_s, time.monotonic() - began, over=self._over)

    def _drawn(self, width: int) -> list[Text]:
        seen = self._seen
        lines = [*bars(seen.phases, width), *wrapped(self._times, width), *wrapped(seen.counts, width)]
        if self._over:
            return lines
        if self._waits:
            lines += wrapped([f"waiting for {self._waits}, {clock(time.monotonic() - self._since)}"], width)
        elif seen.running:
            lines.append(Text(fitted("now ", seen.running, width)))
        return lines

    def _alive(self) -> str:
        waited_s = time.monotonic() - self._since
        return f"still waiting for {self._waits}, {clock(waited_s)}" if self._waits else self._line()

    def _line(self) -> str:
        phases = ", ".join(f"{name} {done}/{planned}" for name, (done, planned) in self._seen.phases.items())
        whole, *times = self._times
        return " · ".join([whole, phases, *(part.plain for part in self._seen.counts), *times])


class _Display:
    """Lines that stay in place on a terminal; elsewhere, and on one that cannot move its cursor, each is written once.

    What is written has no escape codes unless it is for a terminal, and no colours where NO_COLOR asks for none.
    """

    def __init__(self, file: TextIO) -> None:
        self._console = Console(file=file, highlight=False, markup=False, emoji=False)
        self._draws = file.isatty() and not self._console.is_dumb_terminal
        self._live: rich.live.Live | None = None
        self._began = self._told_at = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Since there is this display."""
        return time.monotonic() - self._began

    @property
    def is_due(self) -> bool:
        """Whether it is time for a line, where nothing is drawn."""
        every_s = min(max(PLAIN_AT_LEAST_S, PLAIN_SHARE * self.elapsed_s), PLAIN_AT_MOST_S)
        return time.monotonic() - self._told_at > every_s

    @contextmanager
    def shown(self, drawn: Callable[[int], list[Text]], alive: Callable[[], str]) -> Iterator[None]:
        """Draw while the block runs; the last lines stay. Where nothing is drawn, the line `alive` breaks silence."""
        if not self._draws:
            with _repeated(lambda: self.tell(alive()) if self.is_due else None):
                yield
            return

        def lines() -> Text:
            self._resize()
            return Text("\n", no_wrap=True, overflow="ellipsis").join(drawn(max(1, self._console.width - _MARGIN)))

        self._live = rich.live.Live(
            get_renderable=lines,
            console=self._console,
            refresh_per_second=TICKS_PER_S,
            redirect_stdout=False,  # what others print is not for the screen
            redirect_stderr=False,
        )
        try:
            with self._live:
                self.refresh()
                yield
        finally:
            self._live = None

    def refresh(self) -> None:
        """Draw at once."""
        if self._live is not None:
            self._live.refresh()

    def say(self, line: str) -> None:
        """A line above what is drawn."""
        self._resize()
        self._console.print(one_line(line), soft_wrap=not self._draws)

    def tell(self, line: str) -> None:
        """A line where nothing is drawn."""
        self._told_at = time.monotonic()
        if not self._draws:
            self._console.print(one_line(line), soft_wrap=True)

    def _resize(self) -> None:
        """To the size of this file's screen: Rich would ask the standard streams, which lead to a log by now."""
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(self._console.file.fileno())
            if size.columns and "COLUMNS" not in os.environ:
                self._console.size = ConsoleDimensions(*size)


@contextmanager
def _repeated(call: Callable[[], None]) -> Iterator[None]:
    """Called every second while the block runs, in a thread of its own."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(LOOK_EVERY_S):
            call()

    thread = threading.Thread(target=repeat, name="silence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
