"""The tables of a paper: what they show, what they mark, and what their captions admit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.findings import grid
from orchestrator.views import ablation_tables as ablation
from orchestrator.views.table import FORMATS, Interval, Marked, MeanSd, Signed, Table, render
from tests.orchestrator.findings import ablations
from tests.orchestrator.findings.ablations import contrast, noisy, storage, table

EFFECTS = {"full": 0.0, "without gate": 0.1, "without penalty": -0.1, "without heads": 0.006}


def made(folder: Path, record: dict[str, Any], value: ablations.Value, seeds: Any = ablations.SEEDS, **options: Any):
    store = storage(folder, record, value, seeds=seeds)
    return ablation.tables(grid.collect(store), store.record, **options)


@pytest.fixture
def tables(tmp_path: Path) -> list[Table]:
    return made(tmp_path / "s", ablations.record(list(EFFECTS)), table(noisy(EFFECTS)))


def column(table: Table, header: str) -> list[Any]:
    return [row[table.headers.index(header)] for row in table.rows]


def test_contributions_have_a_row_for_each_cell_with_what_was_found_on_test(tables: list[Table]) -> None:
    contributions = tables[0]
    assert contributions.headers == (
        *("variant", "seeds", "valid/mae", "delta valid", "test/mae", "delta test", "95 % CI", "p (Holm)"),
        *("verdict", "note", "bootstrap p", "sign-flip p", "effect size d"),
    )
    assert column(contributions, "variant") == list(EFFECTS)
    assert column(contributions, "verdict") == ["", "worse", "better", "undecided"]
    full, gate, *_ = contributions.rows
    assert {cell for cell in full if not isinstance(cell, MeanSd)} == {"full", 5, None, ""}
    delta = gate[contributions.headers.index("delta test")]
    assert isinstance(delta, Signed)
    assert delta.value == pytest.approx(0.1, abs=0.02)
    assert isinstance(gate[contributions.headers.index("95 % CI")], Interval)
    assert "+0.1" in render(contributions)


def test_a_sign_flip_test_that_cannot_be_significant_shows_the_least_that_it_can_be(tables: list[Table]) -> None:
    shown = column(tables[0], "sign-flip p")
    assert shown[0] is None
    assert shown[1] == Marked(cell=0.0625, mark=" (least)")
    assert shown[3].mark == " (least 0.0625)"
    assert "cannot go below 0.0625 with 5 seeds" in tables[0].caption


def test_with_enough_seeds_the_sign_flip_test_stands_alone(tmp_path: Path) -> None:
    seeds = list(range(1, 9))
    record = ablations.record(list(EFFECTS), seeds=seeds)
    contributions = made(tmp_path / "s", record, table(noisy(EFFECTS, num_seeds=8)), seeds)[0]
    assert column(contributions, "sign-flip p")[1] == 2 / 2**8
    assert "cannot go below" not in contributions.caption


def test_the_note_says_how_many_seeds_more_would_decide(tables: list[Table]) -> None:
    *decided, undecided = column(tables[0], "note")
    assert decided == ["", "", ""]
    assert undecided.startswith("about ")
    assert undecided.endswith(" seeds more")
    assert "80 %" in tables[0].caption


def test_the_note_names_a_gain_that_does_not_carry_over_and_an_effect_too_small_to_find(tmp_path: Path) -> None:
    values = noisy({"full": 0.0, "without gate": 0.1, "without heads": 0.0})
    values["without heads"] = [
        full + 1e-3 * sign for full, sign in zip(values["full"], (1, -1, 1, -1, 0.1), strict=True)
    ]
    contributions = made(tmp_path / "s", ablations.record(list(values)), table(values, lost=1.5))[0]
    assert column(contributions, "note")[1] == "valid gain does not carry over to test"
    assert column(contributions, "note")[2] == "more than 1,000 seeds more"
    assert "test keeps less than half of the delta on valid" in contributions.caption


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["valid/mae", "valid/corr"])
def test_the_caption_states_what_was_done_and_what_it_does_not_cover(tmp_path: Path, objective: str) -> None:
    record = ablations.record(list(EFFECTS), objective=objective)
    for each in made(tmp_path / "s", record, table(noisy(EFFECTS))):
        for said in (
            *("on mosi", "5 seeds (1, 2, 3, 4, 5)", "No tuning", "Paired t test over seeds, two-sided"),
            *(["where differences are normal with equal variances"] if each.label == "tab:contributions" else []),
            "Intervals cover the luck of the seed, not that of the search or of the split.",
        ):
            assert said in each.caption
        assert "3 comparisons" in each.caption
        assert "cells have all of their seeds" not in each.caption
    assert objective in made(tmp_path / "s", record, table(noisy(EFFECTS)))[0].caption


def test_the_caption_says_how_cells_were_tuned(tmp_path: Path) -> None:
    record = ablations.record(["full"], tuning="per_variant")
    record["studies"]["mosi-full"]["planned"]["search"] = 20
    found = made(tmp_path / "s", record, table({"full": [0.7] * 5}))
    assert "a search of equal budget for each, 20 trials" in found[0].caption
    record["ablation"]["tuning"] = "shared"
    found = made(tmp_path / "s", record, table({"full": [0.7] * 5}))
    assert "the full method's best configuration of 20 trials, for all" in found[0].caption


def test_an_unfinished_grid_says_how_many_cells_are_complete(tmp_path: Path) -> None:
    values = noisy(EFFECTS)
    values["without gate"][2] = None
    values["without heads"] = [None] * 5
    contributions, metrics = made(tmp_path / "s", ablations.record(list(values)), table(values))
    assert "2 of 4 cells have all of their seeds" in contributions.caption
    assert "2 of 4 cells have all of their seeds" in metrics.caption
    assert column(contributions, "seeds") == [5, 4, 5, 0]
    assert column(metrics, "test/mae")[3] == Marked(cell=None)
    assert "Holm's correction over 2 comparisons" in contributions.caption
    assert column(contributions, "verdict")[3] == ""


@pytest.mark.slow
def test_a_race_is_described_and_its_pairs_are_counted(tmp_path: Path) -> None:
    seeds = list(range(1, 11))
    values = noisy(EFFECTS, num_seeds=10)
    for variant in ("without gate", "without penalty"):
        values[variant][5:] = [None] * 5
    race = {"min": 5, "max": 10, "until": 0.03}
    record = ablations.record(list(values), seeds=seeds, race=race)
    contributions = made(tmp_path / "s", record, table(values), seeds)[0]
    assert "5 to 10 seeds, the same for all: a race with looks at 5 and 10" in contributions.caption
    assert "wider than ± 0.03" in contributions.caption
    assert "cells have all of their seeds" not in contributions.caption
    assert column(contributions, "seeds") == [10, 5, 5, 10]
    assert column(contributions, "sign-flip p")[1] == Marked(cell=3 * 0.0625, mark=" (least)")
    record["ablation"]["race"] = {**race, "until": 1e-4}
    contributions = made(tmp_path / "s", record, table(values), seeds)[0]
    assert "2 of 4 cells have all of their seeds" in contributions.caption


def test_a_seed_missing_in_the_full_method_shows_in_a_column_of_pairs(tmp_path: Path) -> None:
    values = noisy(EFFECTS)
    values["full"][0] = None
    contributions = made(tmp_path / "s", ablations.record(list(values)), table(values))[0]
    assert column(contributions, "pairs") == [None, 4, 4, 4]


def test_metrics_have_the_best_in_bold_and_stars_for_what_differs_from_full(tables: list[Table]) -> None:
    metrics = tables[1]
    assert metrics.headers == ("variant", "seeds", "test/mae", "test/corr")
    for name in ("test/mae", "test/corr"):
        cells = column(metrics, name)
        assert [cell.bold for cell in cells] == [False, False, True, False]
        assert [bool(cell.mark) for cell in cells] == [False, True, True, False]
        assert {cell.mark for cell in cells} <= {"", "*", "**", "***"}


def test_stars_follow_the_corrected_p_value_of_the_same_metric(tmp_path: Path) -> None:
    values = noisy(EFFECTS, sd=0.02)
    store = storage(tmp_path / "s", ablations.record(list(values)), table(values))
    found = grid.collect(store)
    stars = [cell.mark for cell in column(ablation.tables(found, store.record)[1], "test/corr")]
    p_holm = [row["p_holm"] for row in ablations.rows(found, split="test", metric="corr")]
    assert stars == ["" if p is None else "*" * sum(p < limit for limit in (0.05, 0.01, 0.001)) for p in p_holm]
    assert len(set(stars)) > 1


def test_metrics_can_be_chosen_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    record = ablations.record(list(EFFECTS))
    store = storage(tmp_path / "s", record, table(noisy(EFFECTS)))
    found, record = grid.collect(store), store.record
    assert ablation.tables(found, record, metrics=["corr"])[1].headers == ("variant", "seeds", "test/corr")
    with pytest.raises(ValueError, match=r"no metric 'cor'; this storage has mae, corr\. Did you mean 'corr'\?"):
        ablation.tables(found, record, metrics=["cor"])


def test_several_datasets_stand_one_after_the_other_each_with_its_own_best(tmp_path: Path) -> None:
    record = ablations.record(["full", "without gate"], datasets=("mosi", "sims"))
    cells = record["ablation"]["cells"]
    record["ablation"]["cells"] = [cells[0], cells[2], cells[1], cells[3]]
    values = noisy({"full": 0.0, "without gate": 0.1})
    contributions, metrics = made(tmp_path / "s", record, table(values))
    for each in (contributions, metrics):
        assert column(each, "dataset") == ["mosi", "mosi", "sims", "sims"]
        assert column(each, "variant") == ["full", "without gate"] * 2
        assert "on mosi, sims" in each.caption
    assert [cell.bold for cell in column(metrics, "test/mae")] == [True, False, True, False]


@pytest.mark.slow
def test_steps_and_effects_have_a_table_of_their_own(tmp_path: Path, tables: list[Table]) -> None:
    assert len(tables) == 2
    contrasts = [
        *ablations.full_contrasts(EFFECTS),
        contrast("step", "+ gate", {"full": 1.0, "without gate": -1.0}),
        contrast("interaction", "gate x heads", {"full": 1.0, "without gate": -1.0, "without heads": -0.0}),
    ]
    *_, effects = made(tmp_path / "t", ablations.record(list(EFFECTS), contrasts=contrasts), table(noisy(EFFECTS)))
    assert effects.headers == (
        *("name", "kind", "seeds", "delta valid", "delta test", "95 % CI", "p (Holm)", "verdict"),
    )
    assert column(effects, "name") == ["+ gate", "gate x heads"]
    assert column(effects, "kind") == ["step", "interaction"]
    assert column(effects, "verdict") == ["helps", "helps"]
    assert "1 of kind step, 1 of kind interaction" in effects.caption
    assert "main effect" not in effects.caption


@pytest.mark.parametrize("format", FORMATS)
def test_the_tables_render_in_every_format(tables: list[Table], format: str) -> None:
    for each in tables:
        text = render(each, format)
        assert text.count(r"\begin{") == text.count(r"\end{") == (3 if format == "latex" else 0)
        assert "Marked(" not in text
    assert [each.label for each in tables] == ["tab:contributions", "tab:metrics"]


def test_the_best_is_told_by_differences_on_common_seeds_not_by_means_of_different_ones(tmp_path: Path) -> None:
    values: dict[str, Any] = {"full": [0.5, 0.5, 0.9, 0.9, 0.9], "without gate": [0.6, 0.7, None, None, None]}
    metrics = made(tmp_path / "s", ablations.record(list(values)), table(values))[1]
    full, gate = column(metrics, "test/mae")
    assert full.cell.mean > gate.cell.mean
    assert (full.bold, gate.bold) == (True, False)
