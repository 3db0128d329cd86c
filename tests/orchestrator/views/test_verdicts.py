"""What the screen says of an ablation first: sentences, one table of 80 columns, short notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.findings import grid
from orchestrator.store import Store
from orchestrator.views import terminal
from orchestrator.views.ablation_tables import of_objective
from orchestrator.views.verdicts import screen, sentences
from tests.orchestrator.findings import ablations
from tests.orchestrator.findings.ablations import contrast, noisy, storage, table

EFFECTS = {"full": 0.0, "without gate": 0.1, "without penalty": -0.1, "without heads": 0.006}
SEEDS = list(range(1, 11))


def made(folder: Path, effects: dict[str, float] | None = None, **options: Any) -> Store:
    effects = effects or EFFECTS
    options = {"seeds": SEEDS} | options
    record = ablations.record(list(effects), **options)
    seeds = record["ablation"]["seeds"]
    return storage(folder / "s", record, table(noisy(effects, num_seeds=len(seeds))), seeds=seeds)


def said(store: Store, **changes: Any) -> list[str]:
    """The sentences, of cells that are changed by variant."""
    cells, _ = of_objective(grid.collect(store), store.record)
    changed = [tuple({**row, **changes.get(row["variant"].replace(" ", "_"), {})} for row in pair) for pair in cells]
    return sentences(changed, store.record)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_a_part_helps_where_it_is_worse_without_it_and_hurts_where_it_is_better(tmp_path: Path) -> None:
    gate, penalty, heads = said(made(tmp_path))
    assert gate.startswith("gate helps: without it test/mae is worse by 0.09")
    assert gate.endswith("] over 10 seeds")
    assert penalty.startswith("penalty hurts: without it test/mae is better by 0.10")
    assert heads == "undecided: without heads"


@pytest.mark.slow
def test_a_variant_that_lacks_nothing_is_itself_better_or_worse(tmp_path: Path) -> None:
    store = made(tmp_path)
    cells = [cell.model_copy(update={"removed": ()}) for cell in store.record.ablation.cells]  # pyright: ignore
    plain = store.record.plain()
    plain["ablation"]["cells"] = [cell.model_dump(mode="json") for cell in cells]
    first, second, _ = said(ablations.with_record(store, ablation=plain["ablation"]))
    assert first.startswith("without gate is worse than full: test/mae is worse by")
    assert second.startswith("without penalty is better than full: test/mae is better by")


@pytest.mark.slow
def test_what_has_no_effect_is_told_from_what_is_undecided(tmp_path: Path) -> None:
    assert said(made(tmp_path, smallest_effect=0.03))[-1] == "no effect beyond ±0.03: without heads"


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_variant_with_fewer_than_two_units_gets_no_verdict(tmp_path: Path, left: int) -> None:
    record = ablations.record(list(EFFECTS), seeds=SEEDS)
    values = noisy(EFFECTS, num_seeds=len(SEEDS))
    values["without heads"][left:] = [None] * (len(SEEDS) - left)
    last = said(storage(tmp_path / "s", record, table(values), seeds=SEEDS))[-1]
    assert last == (
        "undecided: without heads"
        if left == 2
        else "no verdict, as fewer than two seeds are common with full: without heads"
    )


def test_one_search_a_variant_gives_no_verdict_and_says_what_would(tmp_path: Path) -> None:
    (line,) = said(made(tmp_path, tuning="per_variant", units=1))
    assert line.startswith("No verdicts: ")
    assert "--set ablation.searches=10" in line
    assert "--set ablation.tuning=shared" in line


@pytest.mark.slow
def test_a_control_with_a_verdict_forbids_trust_and_one_without_is_silent(tmp_path: Path) -> None:
    store = made(tmp_path)
    control = {"role": "control"}
    assert said(store, without_gate=control)[0] == (
        "The control 'without gate' is worse than full, which it repeats: the verdicts of this study are not to be "
        "trusted."
    )
    assert said(store, without_heads=control)[0].startswith("gate helps")
    assert len(said(store, without_heads=control)) == 2


@pytest.mark.parametrize("long", ["", "encoder.audio.width=64, encoder.vision.width=64, transport.epsilon=0.05"])
def test_the_screen_has_verdicts_before_the_table_and_notes_after_it_in_80_columns(tmp_path: Path, long: str) -> None:
    effects = EFFECTS | ({long: 0.0} if long else {})
    step = contrast("step", "+ gate", {"full": 1.0, "without gate": -1.0})
    store = made(tmp_path, effects, contrasts=[*ablations.full_contrasts(effects), step], seeds=SEEDS[:5])
    lines = screen(*of_objective(grid.collect(store), store.record), store.record, "More: elsewhere").splitlines()
    assert max(map(len, lines)) <= 80
    head = next(index for index, line in enumerate(lines) if line.startswith("variant"))
    assert lines[0].startswith("gate helps")
    assert [line.split()[0] for line in lines[head + 2 : head + 4]] == ["full", "without"]
    assert any(line.startswith("+ gate") and line.endswith("helps") for line in lines[head:])
    assert any(line.startswith("+ gate (step) helps") for line in lines[:head])
    assert lines[-1] == "More: elsewhere"


def test_notes_explain_just_the_marks_that_are_there(tmp_path: Path) -> None:
    store = made(tmp_path, seeds=[1, 2, 3])
    shown = screen(*of_objective(grid.collect(store), store.record), store.record, "")
    assert "f: too few seeds for the bootstrap to have a say." in shown
    assert "b: " not in shown
    assert "n: " not in shown


@pytest.mark.slow
def test_long_notes_come_with_notes_only_and_metrics_where_they_are_asked_for(tmp_path: Path) -> None:
    store = made(tmp_path)
    short, whole = terminal.ablation(store), terminal.ablation(store, notes=True)
    assert "Holm" not in short
    assert whole.startswith(short)
    assert "Holm" in whole
    assert "test/corr" not in short
    assert "test/corr" in terminal.ablation(store, metrics=["corr"])


@pytest.mark.slow
def test_a_study_of_configurations_says_which_way_it_leans(tmp_path: Path) -> None:
    store = made(tmp_path)
    cells, _ = of_objective(grid.collect(store), store.record)
    changed = [tuple({**row, "unit": "configurations"} for row in pair) for pair in cells]
    shown = screen(changed, [], store.record, "")  # pyright: ignore[reportArgumentType]
    assert "over 10 configurations" in " ".join(shown.split())
    assert "the comparison leans towards it" in " ".join(shown.split())
