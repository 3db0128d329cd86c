"""What `msa table` says of a sweep whose studies are compared over several searches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest

from orchestrator.cli import run
from orchestrator.run import launch
from orchestrator.run.ray_backend.driver import Ending, Finished
from orchestrator.store import Store, grid_file
from orchestrator.views import terminal
from tests.orchestrator.findings import ablations
from tests.orchestrator.findings.ablations import contrast, noisy, storage, table

SEEDS = list(range(1, 11))
EFFECTS = {"full": 0.0, "without gate": 0.1, "ogm_ge": -0.1, "agm": 0.0}


def made(folder: Path, **compared: Any) -> Store:
    """A sweep of four studies; the reference, here the first of them, is called concat."""
    values = noisy(EFFECTS, num_seeds=len(SEEDS))
    plain = table(values)

    def value(variant: str, *where: Any) -> float:
        return plain("full" if variant == "concat" else variant, *where)

    names = ["concat", *list(EFFECTS)[1:]]
    contrasts = [contrast("full", name, {name: 1.0, "concat": -1.0}) for name in names[1:]]
    record = ablations.record(names, contrasts=contrasts, seeds=SEEDS, units=len(SEEDS), reference="concat")
    record["experiment"]["studies"] = {name: {} for name in names}
    return storage(folder / "s", record | compared, value, seeds=SEEDS)


@pytest.mark.slow
def test_the_comparison_comes_first_and_the_confirmed_configurations_after_it(tmp_path: Path) -> None:
    shown = terminal.tables(made(tmp_path))
    assert shown.startswith("without gate is worse than concat: test/mae is worse by 0.0")
    assert "ogm_ge is better than concat: test/mae is better by 0.1" in " ".join(shown.split())
    assert "says nothing of which study is better" not in shown
    assert shown.index("undecided: agm") < shown.index("More: msa table") < shown.rindex("test/corr")


@pytest.mark.slow
@pytest.mark.parametrize("format", ["plain", "markdown", "latex"])
def test_studies_are_better_or_worse_than_the_reference_and_nothing_helps_or_hurts(tmp_path: Path, format: str) -> None:
    store = made(tmp_path)
    shown = " ".join((terminal.tables(store, format) + terminal.ablation(store, format, notes=True)).split())
    for word in ("helps", "hurts", "lacks", "minus full", "from full"):
        assert word not in shown
    assert "worse" in shown
    assert "Delta is study minus concat over" in shown or format == "plain"
    assert "differs significantly from concat" in shown or format == "plain"


@pytest.mark.slow
def test_one_phase_and_tables_for_programs_are_without_the_comparison(tmp_path: Path) -> None:
    store = made(tmp_path)
    for format, phase in (("plain", "confirm"), ("csv", None), ("json", None)):
        assert "undecided" not in terminal.tables(store, format, phase=phase)


@pytest.mark.slow
def test_studies_of_one_search_are_shown_as_before(tmp_path: Path) -> None:
    store = made(tmp_path, ablation=None)
    assert "better than" not in terminal.tables(store)
    assert "says nothing of which study is better" in " ".join(terminal.tables(store).split())


@pytest.mark.slow
def test_a_sweep_that_ends_shows_both_and_writes_the_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = made(tmp_path)

    def launched(prepared: Any, storage: str, *, claimed: Callable[[Store], None], **how: Any) -> Finished:
        claimed(store)
        return Finished(num_new=1, num_planned=1, states={}, ended=Ending.DONE)

    monkeypatch.setattr(launch, "launch", launched)
    compared = SimpleNamespace(warnings=(), plan=SimpleNamespace(grid=object()), is_ablation=False)
    with click.Context(run.sweep):
        assert run.run_prepared(cast(Any, compared), store.files.uri, []) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("without gate is worse than concat")
    assert "Configurations chosen by valid/mae" in shown
    assert grid_file.read(store.files) is not None
