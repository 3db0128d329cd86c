"""Over studies resampled from a bank, what counts the right unit holds its error rate and finds what is planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from msa_models import data
from msa_models.data import Corpus
from orchestrator.findings import contrasts
from tests.benchmarks import _bank
from tests.benchmarks._designs import Design, Unit, differences, studies, synthetic
from tests.benchmarks.error_rates import significant
from tests.benchmarks.verdicts import BETWEEN, MOST, WITHIN, alarms, found, smallest

STUDIES = 1_200
BANK = synthetic(between=BETWEEN, within=WITHIN)
DEFAULT = Design(unit="configurations", units=10, seeds=2, trials=20)


@pytest.mark.parametrize("units", [5, 10])
@pytest.mark.parametrize("unit", ["searches", "shared searches", "configurations", "seeds"])
def test_equal_variants_are_called_different_in_at_most_one_study_in_twenty(unit: Unit, units: int) -> None:
    design = Design(unit=unit, units=units, seeds=2, trials=10)
    assert all(0 < each.mean() <= MOST for each in alarms(BANK, design, STUDIES))


def test_seeds_of_one_search_each_are_no_replicates_and_more_of_them_make_it_worse() -> None:
    five, ten = (
        alarms(BANK, Design(unit="one search each", units=units, trials=10), STUDIES)[1].mean() for units in (5, 10)
    )
    assert 5 * MOST < five < ten


def test_a_part_worth_two_standard_deviations_is_found_in_nine_of_ten_studies_and_nothing_else_is() -> None:
    deltas = differences(studies(BANK, DEFAULT, STUDIES, 8)[1])
    deltas[:, 0] += 2 * deltas.std(ddof=1)
    called = significant(deltas)
    assert called[:, 0].mean() >= 0.9
    assert called[:, 1:].any(axis=1).mean() <= MOST


@pytest.mark.slow
def test_a_planted_part_helps_and_a_null_is_undecided_or_without_effect() -> None:
    splits = [differences(values) for values in studies(BANK, DEFAULT, 40, 8)]
    for deltas in splits:
        deltas[:, 0] += 2 * deltas.std(ddof=1)
    words = np.array([verdicts(np.stack(study, axis=1)) for study in zip(*splits, strict=True)])  # (40, 7, 2)
    assert (words[:, 0] == "helps").mean() >= 0.9
    unsure = np.isin(words[:, 1:], ["undecided", "no effect"])
    assert unsure.all(axis=1).mean() >= 1 - MOST
    assert 0.05 < (words[:, 1:] == "no effect").mean() < 1


def verdicts(deltas: np.ndarray) -> np.ndarray:
    """What the product says of one study (cells, splits, units)."""
    found = contrasts.columns(
        deltas,
        kinds=["full"] * len(deltas),
        twins=range(len(deltas)),
        metrics=["valid/mae", "test/mae"],
        objective="valid/mae",
        alpha=0.05,
        race=None,
        smallest_effect=0.04,
    )
    return np.array(found["verdict"]).reshape(deltas.shape[:2])


def test_an_effect_of_seven_hundredths_is_found_with_power_and_the_smallest_that_is_lies_below() -> None:
    deltas = differences(studies(BANK, DEFAULT, 300, 8)[1])
    assert found(deltas, 0.07).mean() >= 0.8
    assert 0 < smallest(deltas) < 0.07


def test_cells_of_a_placebo_differ_although_they_have_the_same_configuration() -> None:
    values = studies(BANK, DEFAULT, STUDIES, 8)[1]
    assert (differences(values) != 0).mean() > 0.99
    assert (values[:, :, :, None] == values[:, :, None, :]).mean() < 0.11  # nor do units share what they are trained on


def test_an_effect_is_added_to_the_second_cell_alone_and_to_what_its_searches_see() -> None:
    design = Design(unit="searches", units=4, trials=10)
    avoided = np.where(np.arange(300) % 2, 0.0, 9.0)  # a part that is needed at every second configuration
    plain, planted = (studies(BANK, design, 100, 3, effect=effect)[0] for effect in (0.0, avoided))
    np.testing.assert_array_equal(planted[:, [0, 2]], plain[:, [0, 2]])
    assert (planted[:, 1] < 2).all()
    assert (planted[:, 1] != plain[:, 1]).any()


@pytest.mark.parametrize(
    ("design", "trainings"),
    [
        (Design(unit="searches", units=5, seeds=3, trials=10), 8 * 5 * (10 + 3)),
        (Design(unit="shared searches", units=5, seeds=3, trials=10), 5 * 10 + 8 * 5 * 3),
        (Design(unit="configurations", units=5, seeds=3, trials=10), 10 + 8 * 5 * 3),
        (Design(unit="seeds", units=5, trials=10), 10 + 8 * 5),
        (Design(unit="one search each", units=5, trials=10), 8 * (10 + 5)),
    ],
    ids=str,
)
def test_a_design_costs_its_searches_and_what_is_trained_in_the_cells(design: Design, trainings: int) -> None:
    assert design.trainings(8) == trainings


@pytest.mark.slow
def test_a_bank_that_was_interrupted_goes_on_and_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"CONFIGURATIONS": 4, "SEARCH": 1, "DEEP": 2, "CONFIRM": 3, "NEXT": 1, "SOME": 1, "CHUNK": 2}
    for name, size in sizes.items():
        monkeypatch.setattr(_bank, name, size)
    trained: list[tuple[int, int]] = []

    def train(_: Corpus, number: int, draw: int) -> dict[str, float]:
        trained.append((number, draw))
        if len(trained) == 11 + 7:
            raise KeyboardInterrupt
        value = -float(number) - draw / 10
        return {"configuration": number, "draw": draw, "valid/mae": value, "test/mae": value / 2}

    monkeypatch.setattr(_bank, "_train", train)
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    _bank.build(corpus(), whole)
    with pytest.raises(KeyboardInterrupt):
        _bank.build(corpus(), killed)
    assert len(_bank.rows(killed)) == 6  # whole chunks
    for name in ("search", "valid", "test"):
        np.testing.assert_array_equal(*(getattr(_bank.build(corpus(), folder), name) for folder in (whole, killed)))
    pd.testing.assert_frame_equal(_bank.rows(killed), _bank.rows(whole))
    assert len(trained) == 11 + 7 + 5
    deep = _bank.read(whole).valid
    assert (~np.isnan(deep)).sum(axis=1).tolist() == [1, 1, 3, 3]  # the first was seen by its search alone
    assert deep[:, 0].tolist() == [-0.0, -1.1, -2.1, -3.1]


def test_draws_of_a_configuration_differ_and_one_that_is_trained_again_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_bank, "FIXED", {"training.epochs": 1})
    one, other, again = (_bank._train(corpus().standardised(), 0, draw) for draw in (0, 1, 0))
    assert one["params"] == other["params"] == again["params"]
    assert one["valid/mae"] == again["valid/mae"] != other["valid/mae"]


def test_a_folder_with_another_bank_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bank.json").write_text("{}")
    with pytest.raises(ValueError, match="bank of another corpus or space"):
        _bank.build(corpus(), tmp_path)


def corpus() -> Corpus:
    """A small one, of utterance vectors."""
    return data.load("synthetic", options={"num_train": 40, "num_valid": 20, "num_test": 20, "layout": "utterances"})
