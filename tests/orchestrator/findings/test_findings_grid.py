"""The grid of an ablation, from the files of a storage; checked against SciPy's paired tests and by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t, ttest_rel
from statsmodels.stats.power import TTestPower

from orchestrator.findings import grid
from orchestrator.plan.race import Race
from orchestrator.store import Store
from orchestrator.store import grid_file as file
from orchestrator.views import terminal
from tests.orchestrator.findings import ablations
from tests.orchestrator.findings.ablations import contrast, noisy, rows, storage, table

EFFECTS = {"full": 0.0, "without gate": 0.1, "without penalty": -0.1, "without heads": 0.0}


@pytest.fixture
def values() -> dict[str, Any]:
    return noisy(EFFECTS)


@pytest.fixture
def store(tmp_path: Path, values: dict[str, Any]) -> Store:
    return storage(tmp_path / "storage", ablations.record(list(values)), table(values))


def only(grid: Any, **where: Any) -> dict[str, Any]:
    (row,) = rows(grid, **where)
    return row


def test_a_cell_is_compared_with_the_full_method_seed_by_seed(store: Store, values: dict[str, Any]) -> None:
    row = only(grid.collect(store), variant="without gate", split="valid", metric="mae")
    cell, full = np.array(values["without gate"]), np.array(values["full"])
    expected = ttest_rel(cell, full)
    interval = expected.confidence_interval(0.95)
    assert (row["n"], row["num_pairs"], row["comparison"], row["designs"]) == (5, 5, "full", "leave_one_out")
    assert (row["mean"], row["sd"]) == pytest.approx((cell.mean(), cell.std(ddof=1)))
    assert (row["delta"], row["p"]) == pytest.approx(((cell - full).mean(), expected.pvalue))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high))
    assert row["effect_size"] == pytest.approx((cell - full).mean() / (cell - full).std(ddof=1))
    assert row["p_signflip"] == 2 / 2**5


def test_every_cell_has_a_row_for_each_split_and_metric_in_the_order_of_the_record(store: Store) -> None:
    found = grid.collect(store)
    shown = list(zip(*(found[name].to_pylist() for name in ("variant", "split", "metric")), strict=True))
    assert shown == [(v, s, m) for v in EFFECTS for s in ("valid", "test") for m in ablations.METRICS]


def test_the_full_method_has_a_mean_and_is_compared_with_nothing(store: Store, values: dict[str, Any]) -> None:
    row = only(grid.collect(store), variant="full", split="valid", metric="mae")
    assert row["mean"] == pytest.approx(np.mean(values["full"]))
    nothing = ("num_pairs", "delta", "p", "p_holm", "ci_low", "effect_size", "verdict", "carries_over", "more_seeds")
    assert {row[name] for name in nothing} == {None}
    assert row["trial_ids"] == [f"mosi-full-{seed}" for seed in ablations.SEEDS]


def test_a_seed_that_failed_in_one_cell_leaves_a_pair_less_and_the_mean_of_the_rest(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    values["without gate"][1] = None
    values["full"][4] = None
    found = grid.collect(storage(tmp_path / "s", ablations.record(list(values)), table(values)))
    row = only(found, variant="without gate", split="valid", metric="mae")
    cell, full = (np.array(values[name])[[0, 2, 3]].astype(float) for name in ("without gate", "full"))
    assert (row["n"], row["num_pairs"]) == (4, 3)
    assert row["mean"] == pytest.approx(np.mean([value for value in values["without gate"] if value is not None]))
    assert row["p"] == pytest.approx(ttest_rel(cell, full).pvalue)
    mine = [f"mosi-without_gate-{seed}" for seed in (1, 3, 4, 5)]
    assert row["trial_ids"] == sorted([*mine, *(f"mosi-full-{seed}" for seed in (1, 3, 4))])


def test_a_cell_without_trials_yet_has_a_row_that_says_so(tmp_path: Path, values: dict[str, Any]) -> None:
    values["without gate"] = [None] * 5
    found = grid.collect(storage(tmp_path / "s", ablations.record(list(values)), table(values)))
    row = only(found, variant="without gate", split="test", metric="mae")
    assert (row["n"], row["num_pairs"], row["verdict"], row["trial_ids"]) == (0, 0, None, [])
    assert {row[name] for name in ("mean", "delta", "p", "p_holm", "more_seeds")} == {None}


def test_nothing_trained_yet_is_a_grid_too(tmp_path: Path, values: dict[str, Any]) -> None:
    found = grid.collect(storage(tmp_path / "s", ablations.record(list(values)), table(values), seeds=()))
    assert set(found["n"].to_pylist()) == {0}


def holm_by_hand(p: list[float]) -> list[float]:
    """Holm (1979): the k-th smallest of m p-values times m - k + 1, never below the one before it."""
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p[index] * (len(p) - rank)))
        adjusted[index] = largest
    return adjusted


@pytest.mark.slow
def test_all_comparisons_of_a_kind_over_all_datasets_are_one_family(tmp_path: Path, values: dict[str, Any]) -> None:
    variants, datasets = list(values), ("mosi", "sims")
    step = contrast("step", "+ gate", {"without gate": 1.0, "without heads": -1.0})
    contrasts = [*ablations.full_contrasts(variants, datasets), step]
    record = ablations.record(variants, datasets=datasets, contrasts=contrasts)
    plain = table(values)
    found = grid.collect(
        storage(tmp_path / "s", record, lambda *key: plain(*key) * (1 + (key[1] == "sims") * key[3] / 100))
    )
    for split in ("valid", "test"):
        family = [row for row in rows(found, comparison="full", split=split, metric="mae") if row["variant"] != "full"]
        assert len(family) == 6
        assert [row["p_holm"] for row in family] == pytest.approx(holm_by_hand([row["p"] for row in family]))
        alone = only(found, comparison="step", split=split, metric="mae")
        assert alone["p_holm"] == alone["p"]


@pytest.mark.parametrize("metric", ablations.METRICS)
def test_what_makes_it_worse_when_taken_away_helps(store: Store, metric: str) -> None:
    found = grid.collect(store)
    verdicts = {row["variant"]: row["verdict"] for row in rows(found, split="test", metric=metric)}
    assert verdicts == {
        "full": None,
        "without gate": "helps",
        "without penalty": "hurts",
        "without heads": "undecided",
    }
    assert np.sign(only(found, variant="without gate", split="test", metric=metric)["delta"]) == (
        1 if metric == "mae" else -1
    )


@pytest.mark.parametrize("metric", ablations.METRICS)
def test_a_step_or_an_effect_that_makes_it_better_helps(tmp_path: Path, values: dict[str, Any], metric: str) -> None:
    with_less_without = {"full": 1.0, "without gate": -1.0}
    contrasts = [
        contrast("step", "+ gate", with_less_without),
        contrast("main effect", "penalty", {"full": 0.5, "without gate": 0.5, "without penalty": -1.0}),
        contrast("interaction", "a x b", {"full": 1, "without gate": -1, "without penalty": -1, "without heads": 1}),
    ]
    found = grid.collect(storage(tmp_path / "s", ablations.record(list(values), contrasts=contrasts), table(values)))
    step = only(found, comparison="step", split="test", metric=metric)
    effect = only(found, comparison="main effect", split="valid", metric="mae")
    interaction = only(found, comparison="interaction", split="valid", metric="mae")
    assert (step["variant"], step["verdict"]) == ("+ gate", "helps")
    assert (effect["variant"], effect["verdict"]) == ("penalty", "hurts")
    assert (step["n"], step["mean"], step["sd"], step["setting"]) == (5, None, None, "")
    full, gate, penalty, heads = (np.array(values[name]) for name in EFFECTS)
    assert effect["p"] == pytest.approx(ttest_rel((full + gate) / 2, penalty).pvalue)
    assert interaction["delta"] == pytest.approx((full - gate - penalty + heads).mean())
    assert len(effect["trial_ids"]) == 15


def test_cells_that_mean_the_same_share_their_trials_and_do_not_differ(tmp_path: Path, values: dict[str, Any]) -> None:
    record = ablations.record(list(values))
    cells = record["ablation"]["cells"]
    cells.append({**cells[1], "variant": "gate=null", "setting": "gate=null", "designs": ["sensitivity"]})
    cells.append({**cells[0], "variant": "gate=3", "setting": "gate=3", "designs": ["sensitivity"]})
    record["ablation"]["contrasts"] += ablations.full_contrasts(["gate=null", "gate=3"])
    found = grid.collect(storage(tmp_path / "s", record, table(values)))
    one, two = (only(found, variant=name, split="test", metric="mae") for name in ("without gate", "gate=null"))
    measured = ("n", "mean", "delta", "p", "p_holm", "verdict", "trial_ids")
    assert [one[name] for name in measured] == [two[name] for name in measured]
    same = only(found, variant="gate=3", split="test", metric="mae")
    assert [same[name] for name in ("delta", "p", "ci_low", "ci_high", "verdict")] == [0, 1, 0, 0, "undecided"]


@pytest.mark.parametrize(("lost", "carries_over"), [(0.0, True), (0.3, True), (0.8, False), (1.5, False)])
def test_a_gain_on_valid_carries_over_unless_test_keeps_less_than_half_of_it(
    tmp_path: Path, values: dict[str, Any], lost: float, carries_over: bool
) -> None:
    found = grid.collect(storage(tmp_path / "s", ablations.record(list(values)), table(values, lost)))
    for variant in ("without gate", "without penalty"):
        assert {row["carries_over"] for row in rows(found, variant=variant)} == {carries_over}
    for variant in ("full", "without heads"):
        assert {row["carries_over"] for row in rows(found, variant=variant)} == {None}


def test_a_gain_that_test_has_lost_by_chance_alone_carries_over(tmp_path: Path, values: dict[str, Any]) -> None:
    plain = table(values)
    spread: dict[int, float] = dict(zip(ablations.SEEDS, (0.5, -0.45, 0.1, -0.4, 0.2), strict=True))

    def value(variant: str, dataset: str, name: str, seed: int) -> float:
        noise = spread[seed] if name.startswith("test/") and variant == "without gate" else 0.0
        return plain(variant, dataset, name, seed) + noise - (0.09 if noise else 0.0)

    found = grid.collect(storage(tmp_path / "s", ablations.record(list(values)), value))
    row = only(found, variant="without gate", split="test", metric="mae")
    assert row["delta"] < 0.5 * only(found, variant="without gate", split="valid", metric="mae")["delta"]
    assert row["carries_over"] is True


def test_only_the_undecided_rows_of_the_objective_say_how_many_seeds_would_decide(tmp_path: Path) -> None:
    values = noisy({"full": 0.0, "without gate": 0.1, "without heads": 0.006})
    found = grid.collect(storage(tmp_path / "s", ablations.record(list(values)), table(values)))
    said = [row for row in found.to_pylist() if row["more_seeds"] is not None]
    assert {(row["variant"], row["metric"], row["verdict"]) for row in said} == {("without heads", "mae", "undecided")}
    for row in said:  # at alpha / 2, as there are two comparisons
        power = [
            TTestPower().power(abs(row["effect_size"]), 5 + row["more_seeds"] + more, 0.025) >= 0.8 for more in (-1, 0)
        ]
        assert power == [False, True]


@pytest.mark.slow
def test_seeds_of_one_search_a_variant_as_an_upgraded_storage_has_them_give_intervals_and_no_verdict(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    record = ablations.record(list(values), tuning="per_variant", unit="seeds", units=len(ablations.SEEDS))
    for each in record["studies"].values():
        each["planned"] = {"search": 20, "confirm": len(ablations.SEEDS)}
    store = storage(tmp_path / "s", record, table(values))
    found = grid.collect(store)
    for name in ("verdict", "variant_is", "p", "p_holm", "p_bootstrap", "guard", "more_seeds"):
        assert set(found[name].to_pylist()) == {None}, name
    row = only(found, variant="without gate", split="test", metric="mae")
    assert row["ci_low"] < row["delta"] < row["ci_high"]
    shown = " ".join(terminal.ablation(store).split())
    assert "--set ablation.searches=10" in shown
    assert "--set ablation.tuning=shared" in shown


@pytest.mark.parametrize(("num_cell", "look"), [(5, 5), (9, 10), (20, 20)])
def test_a_race_pays_for_the_look_at_which_its_pairs_stand(tmp_path: Path, num_cell: int, look: int) -> None:
    values = noisy({"full": 0.0, "without gate": 0.01}, num_seeds=20)
    values["without gate"][num_cell:] = [None] * (20 - num_cell)
    race = {"min": 5, "max": 20, "until": 0.02}
    record = ablations.record(list(values), seeds=list(range(1, 21)), race=race)
    found = grid.collect(storage(tmp_path / "s", record, table(values), seeds=range(1, 21)))
    row = only(found, variant="without gate", split="valid", metric="mae")
    cell, full = np.array(values["without gate"][:num_cell]), np.array(values["full"][:num_cell])
    share = look / (5 + 10 + 20)
    assert Race(**race).share(num_cell) == share
    assert (row["n"], row["num_pairs"]) == (num_cell, num_cell)
    assert row["p"] == pytest.approx(min(1.0, ttest_rel(cell, full).pvalue / share))
    quantile = t.ppf(1 - 0.05 * share / 2, num_cell - 1)
    assert (row["ci_high"] - row["ci_low"]) / 2 == pytest.approx(
        quantile * (cell - full).std(ddof=1) / np.sqrt(num_cell)
    )
    assert only(found, variant="full", split="valid", metric="mae")["n"] == 20


def test_the_file_is_the_same_in_whatever_order_trials_finished(tmp_path: Path, values: dict[str, Any]) -> None:
    record = ablations.record(list(values))
    trials = [ablations.row(record, each, seed, table(values)) for each in record["studies"] for seed in (1, 2, 3)]
    files = []
    for number, order in enumerate((trials, trials[::-1])):
        store = Store.create(tmp_path / f"s{number}", record)
        for minute, trial in enumerate(order):
            store.finish(trial | {"finished_at": f"2026-03-01T12:{minute:02d}:00Z", "host": f"node{number}"}, [])
        grid.write(store)
        files.append(store.files.read(file.GRID_PATH))
    assert files[0] == files[1]


def test_a_fresh_file_is_read_and_a_stale_one_is_collected_anew_but_not_written(store: Store) -> None:
    grid.write(store)
    poisoned = file.read(store.files) or grid.collect(store)
    poisoned = poisoned.set_column(0, poisoned.schema.field(0), [["poisoned"] * poisoned.num_rows])
    file.write(store.files, poisoned)
    newest = max(each for each in file.sources(store.files).values() if each is not None)
    path = store.files.path(file.GRID_PATH)
    os.utime(path, ns=(newest + 1, newest + 1))
    assert set(grid.current(store)["dataset"].to_pylist()) == {"poisoned"}
    os.utime(path, ns=(newest, newest))
    assert grid.current(store).equals(grid.collect(store))
    assert set((poisoned["dataset"]).to_pylist()) == {"poisoned"}


def test_a_file_that_misses_a_trial_finished_meanwhile_does_not_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = grid.collect

    def slow(store: Store) -> Any:
        found = collect(store)
        store.finish(ablations.row(store.record.plain(), "mosi-full", 9), [])
        return found

    monkeypatch.setattr(grid, "collect", slow)
    grid.write(store)
    assert not store.files.exists(file.GRID_PATH)


def test_a_sweep_has_no_grid_and_is_told_what_it_has(tmp_path: Path) -> None:
    record = ablations.record(["full"]) | {"ablation": None}
    with pytest.raises(ValueError, match="holds a sweep and no ablation; `msa table` shows what a sweep found"):
        grid.current(Store.create(tmp_path / "s", record))


@pytest.mark.slow
def test_a_fresh_grid_is_read_and_shown_without_the_libraries_that_made_it(store: Store) -> None:
    grid.write(store)
    newest = max(each for each in file.sources(store.files).values() if each is not None)
    os.utime(store.files.path(file.GRID_PATH), ns=(newest + 1, newest + 1))
    code = f"""
import sys
from orchestrator.findings import grid
from orchestrator.views import ablation_tables as ablation
from orchestrator.store import Store
store = Store.open({store.files.uri!r})
assert ablation.tables(grid.current(store), store.record)
print([name for name in ("torch", "ray", "scipy", "statsmodels", "optuna") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cells_that_mean_the_same_are_one_comparison_of_the_family(tmp_path: Path) -> None:
    names = ["full", "a", "b"]
    values = noisy({"full": 0.0, "a": 0.01, "b": 0.02})
    alone = grid.collect(storage(tmp_path / "alone", ablations.record(names), table(values)))
    record = ablations.record(names)
    twin = dict(record["ablation"]["cells"][1], variant="also a")
    record["ablation"]["cells"].append(twin)
    record["ablation"]["contrasts"].append(contrast("full", "also a", {"also a": 1.0, "full": -1.0}))
    found = grid.collect(storage(tmp_path / "twin", record, table(values)))
    for name in ("a", "b"):
        where = {"variant": name, "split": "test", "metric": "mae"}
        assert only(found, **where)["p_holm"] == only(alone, **where)["p_holm"]
    pair = [only(found, variant=name, split="test", metric="mae") for name in ("a", "also a")]
    assert pair[0]["p_holm"] == pair[1]["p_holm"]
