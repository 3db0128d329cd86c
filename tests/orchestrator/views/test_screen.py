"""What is shipped fits a screen of 80 columns: help, lists, plans, and what is shown of storages."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli import msa
from orchestrator.findings.failures import failures
from orchestrator.findings.status import summary
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.corpora import EncoderInfo
from orchestrator.plan.plan import plan
from orchestrator.store import Store
from orchestrator.views import plan_view, screen, terminal
from search_spaces.loading import load, titles
from tests.orchestrator.run import fakes
from tests.orchestrator.views.test_plan_view import CORPUS as PLAIN

CORPUS = replace(PLAIN, texts="7e47", encoder=lambda name: EncoderInfo(fingerprint="0123456789abcdef"))


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def wide(text: str, columns: int = 80) -> list[str]:
    """Lines that do not fit, but for a command to be pasted, which stays on one line."""
    return [line for line in text.splitlines() if len(line) > columns and not line.startswith("More: msa ")]


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        yield from commands(command, *path, name) if isinstance(command, click.Group) else [(*path, name)]


@pytest.mark.parametrize("command", [["list"], *([*path, "--help"] for path in commands(msa))], ids=" ".join)
def test_help_and_lists_fit(command: list[str]) -> None:
    result = CliRunner().invoke(msa, command, standalone_mode=False)
    assert result.output
    assert not wide(result.output)


@pytest.mark.parametrize("name", titles())
def test_plans_of_shipped_experiments_fit(name: str) -> None:
    experiment = load(name).experiment
    assert not wide(plan_view.sweep(experiment, plan(experiment, CORPUS).studies, width=80))
    if not experiment.studies:
        grid = plan_ablation(experiment, [CORPUS, replace(CORPUS, name="mosi", fingerprint="fedcba9876543210")]).grid
        alone = plan_ablation(experiment, [CORPUS]).grid
        assert alone is not None
        assert grid is not None
        assert not wide(plan_view.ablation(experiment, alone, width=80))
        assert not wide(plan_view.ablation(experiment, grid, width=80))


@pytest.mark.slow
def test_what_is_shown_of_a_storage_fits(tmp_path: Path) -> None:
    for number, planned in enumerate((fakes.studies(), fakes.several())):
        uri = tmp_path / str(number)
        fakes.play(str(uri), planned, workload=fakes.failing_toy)
        store = Store.open(uri)
        found = failures(store)
        assert found
        assert not wide(terminal.tables(store))
        assert not wide(terminal.status(summary(store)))
        assert not wide("\n".join(terminal.failed(found)))
        whole = terminal.failures(str(uri), found)
        assert not [line for line in wide(whole) if "retry:" not in line and "  | " not in line]


@pytest.mark.slow
def test_what_is_shown_of_an_ablation_fits(tmp_path: Path) -> None:
    fakes.play_ablation(str(tmp_path), fakes.ablation())
    store = Store.open(tmp_path)
    assert not wide(terminal.ablation(store))
    assert not wide(terminal.ablation(store, notes=True))
    assert not wide(terminal.status(summary(store)))


def test_the_widest_cells_are_folded_first_and_no_word_is_broken() -> None:
    rows = [["a name", "some words of a long story", "1"], ["another", "short", "22"]]
    assert screen.folded(rows, ["name", "what", "n"], 80).splitlines()[2] == "a name   some words of a long story  1"
    text = screen.folded(rows, ["name", "what", "n"], 28)
    assert not wide(text, 28)
    assert "some words of a" in text
    assert wide(screen.folded([["unbreakable" * 4]], ["name"], 20), 20)


def test_warnings_are_as_wide_as_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "word " * 60
    for columns, most in (("50", 50), ("100", 100), ("300", 120)):
        monkeypatch.setenv("COLUMNS", columns)
        lengths = [len(each) for each in screen.warning(line).splitlines()]
        assert most - 5 <= max(lengths) <= most
