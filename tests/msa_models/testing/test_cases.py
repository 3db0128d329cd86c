from itertools import combinations as chosen
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest

from msa_models.testing import LAYOUTS, TASKS, combinations, small_corpus
from msa_models.testing.cases import UTTERANCES, each_once

SIZES = [(17, 4, 2, 3), (3, 2, 5, 7), (1, 4, 2), (2, 2, 2, 2, 2, 2), (5, 5, 5)]


def dimensions(sizes: tuple[int, ...]) -> dict[str, list[Any]]:
    return {f"dimension {axis}": [f"{axis}.{index}" for index in range(size)] for axis, size in enumerate(sizes)}


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_pair_of_values_of_two_dimensions_occurs_in_few_cases(sizes: tuple[int, ...]) -> None:
    asked = dimensions(sizes)
    cases = combinations(asked)
    wanted = {pair for one, other in chosen(asked.values(), 2) for pair in product(one, other)}
    assert {pair for case in cases for pair in chosen(case, 2)} == wanted
    first, second = sorted(sizes)[-2:]
    assert first * second <= len(cases) <= min(1.5 * first * second + 4, prod(sizes))
    assert combinations(asked) == cases


def test_of_two_dimensions_or_of_none_there_is_nothing_to_save() -> None:
    assert len(combinations(dimensions((6, 4)))) == 24
    assert combinations({"component": [], "layout": [1, 2], "task": [1]}) == []
    assert each_once({"component": [], "layout": [1, 2]}) == []


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_once_is_every_value_of_the_first_dimension_and_every_combination_of_the_others(sizes: tuple[int, ...]) -> None:
    asked = dimensions(sizes)
    cases = each_once(asked)
    first, *others = asked.values()
    assert {case[0] for case in cases} == set(first)
    assert {case[1:] for case in cases} == set(product(*others))
    assert len(cases) == max(len(first), prod(sizes[1:]))


def test_one_variable_asks_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = dimensions((17, 4, 2, 3))
    monkeypatch.setenv("MSA_EVERY_COMBINATION", "1")
    assert combinations(asked) == each_once(asked) == list(product(*asked.values()))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("task", TASKS)
def test_small_corpora_are_standardised_and_in_the_layout_that_was_asked_for(task: str, layout: str) -> None:
    corpus = small_corpus(task, layout)
    assert corpus.task == task
    assert {name for name in corpus.modalities if not corpus.sequence(name)} == set(UTTERANCES[layout])
    train = corpus.splits["train"]
    for name in UTTERANCES[layout]:
        np.testing.assert_allclose(train.inputs[name].mean(0), 0, atol=1e-5)
