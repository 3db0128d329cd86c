"""The tables choose on valid and never look at test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from msa_models.metrics import Direction
from orchestrator.store.schema import trial_table
from orchestrator.views.table import MeanSd, Table
from orchestrator.views.trial_tables import confirmed, leaderboard, short_names

MakeRow = Callable[..., dict[str, Any]]
METRICS = ("mae", "corr")


def trials_of(*rows: dict[str, Any]) -> pa.Table:
    return pa.concat_tables([trial_table(row, METRICS) for row in rows])


def column(table: Table, header: str) -> list[Any]:
    return [row[table.headers.index(header)] for row in table.rows]


@pytest.mark.parametrize(
    ("direction", "order"), [(Direction.MINIMIZE, [1, 0, 2]), (Direction.MAXIMIZE, [2, 0, 1])], ids=str
)
def test_the_best_value_comes_first(make_row: MakeRow, direction: Direction, order: list[int]) -> None:
    trials = trials_of(*(make_row(number, **{"valid/mae": value}) for number, value in enumerate((0.8, 0.7, 0.9))))
    table = leaderboard(trials, "valid/mae", direction, METRICS)
    assert column(table, "trial") == order
    assert column(table, "rank") == [1, 2, 3]
    assert column(table, "valid/mae") == sorted(column(table, "valid/mae"), reverse=direction == "maximize")
    assert leaderboard(trials, "valid/mae", direction, METRICS, top=2).rows == table.rows[:2]


def test_equal_values_are_ranked_by_trial_number(make_row: MakeRow) -> None:
    trials = trials_of(*(make_row(number, **{"valid/mae": 0.8}) for number in (3, 1, 2)))
    assert column(leaderboard(trials, "valid/mae", Direction.MAXIMIZE, METRICS), "trial") == [1, 2, 3]


def test_only_complete_search_trials_are_ranked(make_row: MakeRow) -> None:
    rows = [make_row(0), make_row(1, state="PRUNED"), make_row(2, state="FAIL"), make_row(3, phase="confirm")]
    table = leaderboard(trials_of(*rows), "valid/mae", Direction.MINIMIZE, METRICS)
    assert column(table, "trial") == [0]
    assert "Best 1 of 1 COMPLETE search trials (3 finished)" in table.caption


def test_any_valid_metric_can_be_ranked_by(make_row: MakeRow) -> None:
    trials = trials_of(*(make_row(number, **{"valid/corr": corr}) for number, corr in enumerate((0.5, 0.7, 0.6))))
    table = leaderboard(trials, "valid/corr", Direction.MAXIMIZE, METRICS)
    assert column(table, "trial") == [1, 2, 0]
    assert column(table, "valid/corr") == [0.7, 0.6, 0.5]


def test_test_metrics_are_not_shown_and_change_no_ranking(make_row: MakeRow) -> None:
    rows = [make_row(number) for number in range(4)]
    table = leaderboard(trials_of(*rows), "valid/mae", Direction.MINIMIZE, METRICS)
    assert not any(header.startswith("test/") for header in table.headers)
    shuffled = [row | {"test/mae": 0.1 * number, "test/corr": -0.1 * number} for number, row in enumerate(rows)]
    assert leaderboard(trials_of(*shuffled), "valid/mae", Direction.MINIMIZE, METRICS) == table


@pytest.mark.parametrize("table", [leaderboard, confirmed])
@pytest.mark.parametrize(
    ("objective", "words"),
    [("test/mae", "never on the test split"), ("valid/mea", "Did you mean 'valid/mae'")],
)
def test_what_cannot_be_ranked_by_is_refused(
    make_row: MakeRow, table: Callable[..., Table], objective: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        table(trials_of(make_row()), objective, Direction.MINIMIZE, METRICS)


def test_only_the_parameters_that_vary_are_shown_by_short_names(make_row: MakeRow) -> None:
    first = {"encoder.width": 32, "encoder.depth": 2, "fusion.depth": 1, "training.epochs": 9, "training.decay": 0.1}
    second = {"encoder.width": 64, "encoder.depth": 3, "fusion.depth": 2, "training.epochs": 7, "training.decay": 0.1}
    third = second | {"conflict_penalty.kind": "cosine"}
    trials = trials_of(*(make_row(number, params=params) for number, params in enumerate((first, second, third))))
    table = leaderboard(trials, "valid/mae", Direction.MINIMIZE, METRICS)
    assert table.headers[-9:-4] == ("kind", "encoder.depth", "width", "fusion.depth", "training.epochs")
    assert column(table, "width") == [64, 64, 32]
    assert column(table, "kind") == ["cosine", None, None]
    assert len(set(table.headers)) == len(table.headers)


def test_for_programs_parameters_have_their_whole_paths_whatever_else_is_searched(make_row: MakeRow) -> None:
    first, second = {"encoder.width": 32, "seed": 1}, {"encoder.width": 64, "seed": 2}
    trials = trials_of(*(make_row(number, params=params) for number, params in enumerate((first, second))))
    table = leaderboard(trials, "valid/mae", Direction.MINIMIZE, METRICS, whole_paths=True)
    assert table.headers[-6:-4] == ("encoder.width", "config.seed")  # there is a seed of the trial already
    assert column(table, "encoder.width") == [64, 32]


def test_short_names_are_as_short_as_they_are_clear() -> None:
    assert short_names(["a.x.depth", "b.x.depth", "b.width"]) == {
        "a.x.depth": "a.x.depth",
        "b.x.depth": "b.x.depth",
        "b.width": "width",
    }
    assert short_names(["training.seed", "value"], taken=("seed", "value")) == {
        "training.seed": "training.seed",
        "value": "config.value",
    }


def test_of_several_studies_the_best_trials_of_each_are_shown_by_its_name(make_row: MakeRow) -> None:
    rows = [make_row(number) for number in range(3)]
    rows += [make_row(number, study_id="b", variant="ogm_ge", method="concat") for number in range(5, 8)]
    table = leaderboard(trials_of(*rows), "valid/mae", Direction.MINIMIZE, METRICS, top=1)
    assert column(table, "study") == ["ogm_ge", "full"]
    assert column(table, "trial") == [7, 2]
    assert column(table, "method") == ["concat", "cpsl"]
    assert "dataset" not in table.headers
    assert table.caption.startswith("Best 1 of 6 COMPLETE search trials (6 finished) of each of 2 studies, best first")
    two = leaderboard(trials_of(*rows), "valid/mae", Direction.MINIMIZE, METRICS, top=2)
    assert list(zip(column(two, "study"), column(two, "rank"), strict=True)) == [
        *(("ogm_ge", 1), ("ogm_ge", 2), ("full", 1), ("full", 2))
    ]


def test_a_parameter_that_one_study_searches_may_be_left_out_and_then_the_caption_says_so(make_row: MakeRow) -> None:
    rows = [make_row(number, params={"encoder.width": 32 * (number + 1)}) for number in range(2)]
    rows.append(make_row(3, study_id="b", variant="ogm_ge", params={"encoder.width": 8, "ogm_ge.alpha": 0.3}))
    whole = leaderboard(trials_of(*rows), "valid/mae", Direction.MINIMIZE, METRICS)
    assert column(whole, "alpha") == [0.3, None, None]
    shared = leaderboard(trials_of(*rows), "valid/mae", Direction.MINIMIZE, METRICS, shared_only=True)
    assert set(whole.headers) - set(shared.headers) == {"alpha"}
    assert "csv and json have the others" in shared.caption
    assert "csv and json" not in whole.caption


def test_two_studies_of_one_name_are_told_apart_by_their_ids(make_row: MakeRow) -> None:
    rows = [make_row(0), make_row(1, study_id="b")]
    assert column(leaderboard(trials_of(*rows), "valid/mae", Direction.MINIMIZE, METRICS), "study") == [
        "b",
        "cpsl-mosi-full",
    ]


def test_a_search_without_a_complete_trial_is_an_empty_table(make_row: MakeRow) -> None:
    assert leaderboard(trials_of(make_row(state="FAIL")), "valid/mae", Direction.MINIMIZE, METRICS).rows == ()
    assert leaderboard(trials_of(make_row()).slice(1), "valid/mae", Direction.MINIMIZE, METRICS).rows == ()


def confirm_rows(make_row: MakeRow, values: dict[int, float], **changes: Any) -> list[dict[str, Any]]:
    return [
        make_row(0, phase="confirm", seed=seed, **{"valid/mae": value, "test/mae": 2 * value} | changes)
        for seed, value in values.items()
    ]


def test_a_confirmed_configuration_has_mean_and_sample_deviation_of_each_metric(make_row: MakeRow) -> None:
    values = {0: 0.71, 1: 0.74, 2: 0.69}
    table = confirmed(trials_of(make_row(), *confirm_rows(make_row, values)), "valid/mae", Direction.MINIMIZE, METRICS)
    assert table.headers == ("study", "method", "seeds", "valid/mae", "valid/corr", "test/mae", "test/corr")
    assert column(table, "seeds") == [3]
    (mae,), (test_mae,) = column(table, "valid/mae"), column(table, "test/mae")
    sample = np.array(list(values.values()))
    assert (mae.mean, mae.sd, mae.n) == pytest.approx((sample.mean(), sample.std(ddof=1), 3))
    assert (test_mae.mean, test_mae.sd) == pytest.approx((2 * sample.mean(), 2 * sample.std(ddof=1)))
    assert "mean ± sd (ddof=1) over 3 seeds" in table.caption
    assert "not a finding" not in table.caption


def test_one_seed_has_no_deviation_and_is_called_no_finding(make_row: MakeRow) -> None:
    table = confirmed(trials_of(*confirm_rows(make_row, {0: 0.7})), "valid/mae", Direction.MINIMIZE, METRICS)
    assert column(table, "valid/mae") == [MeanSd(mean=0.7, sd=None, n=1)]
    assert "over 1 seed." in table.caption
    assert "One seed is not a finding" in table.caption


def test_a_seed_that_was_trained_twice_counts_once_by_its_newest_trial(make_row: MakeRow) -> None:
    rows = confirm_rows(make_row, {0: 0.7, 1: 0.8})
    newer = rows[0] | {
        "trial_id": "newer",
        "valid/mae": 0.6,
        "value": 0.6,
        "finished_at": datetime(2027, 1, 1, tzinfo=UTC),
    }
    table = confirmed(trials_of(newer, *rows), "valid/mae", Direction.MINIMIZE, METRICS)
    assert column(table, "seeds") == [2]
    assert column(table, "valid/mae")[0].mean == pytest.approx(0.7)


@pytest.mark.parametrize(("with_search", "expected"), [(True, 0.80), (False, 0.70)])
def test_of_several_configurations_the_search_decides_and_else_valid_but_never_test(
    make_row: MakeRow, with_search: bool, expected: float
) -> None:
    chosen, other = {"encoder.width": 32}, {"encoder.width": 64}
    rows = confirm_rows(make_row, {0: 0.81, 1: 0.79}, params=chosen, **{"test/mae": 0.9})
    better = confirm_rows(make_row, {0: 0.7, 1: 0.7}, params=other, **{"test/mae": 0.1})
    rows += [row | {"trial_id": f"other-{row['seed']}"} for row in better]
    searched = [make_row(0, params=chosen, **{"valid/mae": 0.6}), make_row(1, params=other, **{"valid/mae": 0.65})]
    for test_mae in (0.0, 5.0):
        rows = [row | ({"test/mae": test_mae} if row["params"] == other else {}) for row in rows]
        table = confirmed(
            trials_of(*rows, *(searched if with_search else [])), "valid/mae", Direction.MINIMIZE, METRICS
        )
        assert column(table, "valid/mae")[0].mean == pytest.approx(expected)


def test_studies_stand_side_by_side_and_failed_seeds_are_mentioned(make_row: MakeRow) -> None:
    rows = confirm_rows(make_row, {0: 0.7, 1: 0.8})
    rows += confirm_rows(make_row, {0: 0.9, 1: 0.9, 2: 0.9}, study_id="b", variant="no_fusion")
    rows.append(make_row(0, phase="confirm", seed=2, state="FAIL"))
    table = confirmed(trials_of(*rows), "valid/mae", Direction.MINIMIZE, METRICS)
    assert [row[:3] for row in table.rows] == [("full", "cpsl", 2), ("no_fusion", "cpsl", 3)]
    assert "over 2 to 3 seeds" in table.caption
    assert "1 confirm trials did not come to COMPLETE" in table.caption


@pytest.mark.parametrize(
    ("direction", "order"), [(Direction.MINIMIZE, ["a", "c", "b"]), (Direction.MAXIMIZE, ["b", "c", "a"])]
)
def test_confirmed_studies_are_sorted_by_the_mean_of_the_objective_on_valid_and_never_on_test(
    make_row: MakeRow, direction: Direction, order: list[str]
) -> None:
    means = {"b": 0.9, "a": 0.7, "c": 0.8}
    for sign in (1.0, -1.0):
        rows = [
            row | {"test/mae": sign * row["value"]}
            for name, mean in means.items()
            for row in confirm_rows(make_row, {1: mean - 0.01, 2: mean + 0.01}, study_id=f"id-{name}", variant=name)
        ]
        table = confirmed(trials_of(*rows), "valid/mae", direction, METRICS)
        assert column(table, "study") == order
        assert "The best mean comes first" in table.caption


def test_a_cell_that_two_studies_come_to_is_trained_once_and_counts_for_both(make_row: MakeRow) -> None:
    params = {"encoder.width": 32}
    rows = [make_row(0, params=params), *confirm_rows(make_row, {1: 0.7, 2: 0.8}, params=params)]
    rows.append(make_row(0, study_id="b", variant="wide", params=params))
    rows.append(make_row(0, study_id="c", variant="other", params=params, method="concat"))
    table = confirmed(trials_of(*rows), "valid/mae", Direction.MINIMIZE, METRICS)
    assert column(table, "study") == ["full", "wide"]
    assert column(table, "seeds") == [2, 2]


def test_nothing_confirmed_yet_says_so(make_row: MakeRow) -> None:
    table = confirmed(trials_of(make_row()), "valid/mae", Direction.MINIMIZE, METRICS)
    assert (table.rows, table.caption) == ((), "No confirmed configuration yet.")
