"""What a user sees of `msa sweep`, `resume` and `ablate` on terminals of 80 and 120 columns, from start to end."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.end_to_end.conftest import SMALL, Msa
from tests.end_to_end.tmux_pane import MISSING, Pane, pane

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

LONGER = ("search.trials=5", "training.epochs=24", "search.pruner.kind=none")  # to be interrupted within a trial
BAR = re.compile(r"(search|select|confirm) +[━─]+ +(\d+)/(\d+)")
TIMES = re.compile(r"\d+/\d+ trials · [\d:]+( · [\d.]+ (trials/s|s/trial|min/trial))?( · [\d:]+ left)?")
COUNTS = re.compile(
    r"\d+ complete( · \d+ pruned)?( · \d+ running)?"
    r"( · \d+ of \d+ studies done)?( · best valid/mae \d\.\d{4}( \(.+\))?)?"
)
WAITS = re.compile(r"waiting for (.+), [\d:]+")
NOW = re.compile(r"now .*(search|select|confirm) \d+( \(epoch \d+/\d+\))?( and \d+ more)?")
COLOURS = {"0", "1", "2", "31", "32", "39", "49"}  # of the terminal itself: its red, its green, its defaults


def run_of(pane: Pane) -> list[dict[str, tuple[int, int]]]:
    """The bars of each screen of the run; that these, and the lines below them, stand whole and in place is checked."""
    found = []
    for shown in pane.seen:
        assert all(len(line) <= pane.columns for line in shown), shown
        assert not any("…" in line or "\x1b" in line for line in shown), shown
        assert not any(re.search(r"\bray\b|raylet|WARNING|INFO", line) for line in shown), shown
        bars = [match for line in shown if (match := BAR.fullmatch(line))]
        if not bars:
            continue
        first = shown.index(bars[0].group())
        assert [line for line in shown if BAR.match(line)] == shown[first : first + len(bars)], shown
        below = shown[first + len(bars) :]
        assert TIMES.fullmatch(below[0]), shown
        assert COUNTS.fullmatch(below[1]), shown
        doing = [line for line in below if line.startswith(("now ", "waiting "))]
        assert all(WAITS.fullmatch(line) or NOW.fullmatch(line) for line in doing), shown
        assert doing in ([], below[2:3]), shown
        found.append({match[1]: (int(match[2]), int(match[3])) for match in bars})
    return found


def waited(seen: Sequence[Sequence[str]]) -> list[str]:
    """What the run waited for, in its order, each once; and the phases of what it trained then."""
    found = []
    for shown in seen:
        for line in shown:
            what = match[1] if (match := WAITS.fullmatch(line)) else match[1] if (match := NOW.fullmatch(line)) else ""
            if what and what not in found[-1:]:
                found.append(what)
    return found


def in_order(run: list[dict[str, tuple[int, int]]]) -> None:
    """Phases stand in their order, counts only grow, and nothing is confirmed before its search is over."""
    for before, now in pairwise(run):
        assert all(now[phase][0] >= before[phase][0] for phase in before), (before, now)
    for bars in run:
        assert list(bars) == [phase for phase in ("search", "select", "confirm") if phase in bars]


def test_a_sweep_and_its_resume_are_whole_on_terminals_of_80_and_of_120_columns(msa: Msa) -> None:
    with pane(80, msa.folder, *msa.sweep_arguments("interrupted", (*SMALL, *LONGER))) as narrow:
        narrow.watch(lambda shown: any(line.startswith("search ") and " 1/5" in line for line in shown))
        colours = {
            code
            for seen in narrow.lines("-e")
            for codes in re.findall(r"\x1b\[([\d;]*)m", seen)
            for code in codes.split(";")
        }
        narrow.type("C-c")
        last = narrow.to_the_end()
    assert colours <= COLOURS
    assert last[-3].startswith("interrupted after ")
    assert last[-2:] == ["go on with: msa resume interrupted", "exit code 130"]
    run = run_of(narrow)
    in_order(run)
    assert run[0] == {"search": (0, 5), "confirm": (0, 2)}
    assert waited(narrow.seen) == ["Ray to start", "workers to start", "the first epoch", "search"]
    num_finished = run[-1]["search"][0]
    assert 1 <= num_finished < 5

    with pane(120, msa.folder, "resume", "interrupted") as broad:
        last = broad.to_the_end()
    assert last[-1] == "exit code 0"
    assert last[-2].startswith("results: interrupted")
    run = run_of(broad)
    in_order(run)
    assert run[0] == {"search": (num_finished, 5), "confirm": (0, 2)}  # at once, while Ray starts
    assert run[-1] == {"search": (5, 5), "confirm": (2, 2)}
    assert waited(broad.seen)[-2:] == ["search", "confirm"], broad.seen


def test_an_ablation_is_whole_on_a_terminal_of_80_columns(tmp_path: Path) -> None:
    small = (
        "data.options={num_train: 64, num_valid: 32, num_test: 32, layout: utterances}",
        "resources.max_concurrent=1",
    )
    wanted = ("--tuning", "none", "--designs", "leave_one_out", "--components", "gated_fusion", "--seeds", "3")
    settings = (word for each in small for word in ("--set", each))
    with pane(80, tmp_path, "ablate", "cpsl", "--epochs", "2", *wanted, *settings, "--storage", "ablated") as narrow:
        last = narrow.to_the_end()
    assert last[-1] == "exit code 0"
    run = run_of(narrow)
    in_order(run)
    assert run[0] == {"confirm": (0, 6)}
    assert run[-1] == {"confirm": (6, 6)}
    assert any("0 of 2 studies done" in line for shown in narrow.seen for line in shown)
    assert any(re.match(r"now (full|without gated_fusion) confirm ", line) for shown in narrow.seen for line in shown)
