"""How far a run is, as lines that fit a screen of any width: a bar for each phase, times, counts, what runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from msa_models.printable import one_line
from orchestrator.run.campaign import Campaign
from orchestrator.run.messages import Assignment
from orchestrator.run.progress import best_text, totals
from orchestrator.run.study_state import COMPLETE, FAIL, PRUNED

_WIDEST_BAR, _NARROWEST_BAR = 40, 4
_DONE, _OPEN = "━", "─"  # which differ without colours, too
_BETWEEN = " · "


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A picture of a campaign at one moment.

    `phases`: trials finished and planned of each, in their order. `states`: trials of the storage by how they ended.
    `running`: each trial that runs, and how many epochs of it are known. `num_new`: trials finished in this run.
    """

    phases: Mapping[str, tuple[int, int]]
    states: Mapping[str, int]
    running: Sequence[str]
    studies: str
    best: str
    num_new: int

    @classmethod
    def of(cls, campaign: Campaign) -> Progress:
        """As it is now."""
        studies, num_done = campaign.studies, sum(study.done for study in campaign.studies)
        several = len(studies) > 1
        names = {study.study.study_id: f"{one_line(study.study.variant.name)} " if several else "" for study in studies}
        return cls(
            phases=campaign.phases,
            states=dict(campaign.states),
            running=[
                f"{names[trial.study_id]}{trial.phase} {trial.number}" + _epochs(trial, done)
                for trial, done in campaign.running
            ],
            studies=f"{num_done} of {len(studies)} studies done" if several else "",
            best=one_line(f"best {best}") if (best := best_text(studies)) else "",
            num_new=campaign.num_new,
        )

    @property
    def stage(self) -> tuple[bool, ...]:
        """Which phases are over: a change of it is worth a line."""
        return tuple(finished >= planned for finished, planned in self.phases.values())

    def times(self, elapsed_s: float, trained_s: float, *, over: bool = False) -> list[str]:
        """Trials, the time of this run, its pace since there are workers, and how long the rest takes at that pace."""
        finished, planned = totals(self.phases)
        num_left = 0 if over else planned - finished
        return [
            f"{finished}/{planned} trials",
            clock(elapsed_s),
            *([pace(self.num_new, trained_s)] if self.num_new else []),
            *([f"{clock(num_left * trained_s / self.num_new)} left"] if self.num_new and num_left else []),
        ]

    @property
    def counts(self) -> list[Text]:
        """How the trials ended, how many studies are done, and the best value."""
        named = ((COMPLETE, "complete", ""), (PRUNED, "pruned", ""), (FAIL, "failed", "red"))
        ended = [
            Text(f"{count} {name}", style)
            for state, name, style in named
            if (count := self.states.get(state, 0)) or state == COMPLETE
        ]
        running = [Text(f"{len(self.running)} running")] if self.running else []
        return [*ended, *running, *map(Text, filter(None, [self.studies, self.best]))]


def _epochs(trial: Assignment, done: int) -> str:
    """How far a trial is; of several trainings, as a search trial may have, how many epochs they have come to."""
    planned = "" if trial.members else f"/{trial.config['training']['epochs']}"
    return f" (epoch {done}{planned})" if done else ""


def bars(rows: Mapping[str, tuple[int, int]], width: int) -> list[Text]:
    """For each name a bar of what is finished and planned, and the numbers."""
    names = max(map(len, rows), default=0)
    numbers = {name: f"{done}/{planned}" for name, (done, planned) in rows.items()}
    longest = max(map(len, numbers.values()), default=0)
    most = max(_NARROWEST_BAR, min(_WIDEST_BAR, width - names - longest - 2))
    lines = []
    for name, (done, planned) in rows.items():
        full = most * min(done, planned) // planned if planned else most
        bar = (_DONE * full, "green"), (_OPEN * (most - full), "dim")
        lines.append(Text.assemble(f"{name:<{names}} ", *bar, f" {numbers[name]:>{longest}}"))
    return lines


def wrapped(parts: Iterable[Text | str], width: int) -> list[Text]:
    """The parts one after the other, in as many lines as it takes; no part is broken unless it is wider than a line."""
    lines: list[Text] = []
    for part in parts:
        text = Text(part) if isinstance(part, str) else part.copy()
        text.truncate(width, overflow="ellipsis")
        if lines and lines[-1].cell_len + len(_BETWEEN) + text.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], _BETWEEN, text)
        else:
            lines.append(text)
    return lines


def fitted(head: str, names: Sequence[str], width: int) -> str:
    """As many of the names as fit one line, and how many more there are; at least the first, cut where it must be."""
    for shown in range(len(names), 0, -1):
        more = f" and {len(names) - shown} more" if shown < len(names) else ""
        line = head + ", ".join(names[:shown]) + more
        if cell_len(line) <= width:
            return line
    return set_cell_size(head + names[0], width - 1).rstrip() + "…" if names else ""


def pace(num: int, seconds: float) -> str:
    """Trials a second where they are short, the time for one where they are long."""
    each = max(seconds, 1e-9) / num
    if each < 1.0:
        return f"{1.0 / each:.1f} trials/s"
    if each < 60.0:
        return f"{each:.1f} s/trial"
    return f"{each / 60.0:.1f} min/trial" if each < 3600.0 else f"{each / 3600.0:.1f} h/trial"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds; minutes and seconds where that is all."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
