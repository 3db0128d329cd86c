"""What a run needs of the memory of its nodes is compared with what they have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from msa_models.data import Corpus, load
from orchestrator.plan.studies import Study
from orchestrator.run.preparation import prepare
from orchestrator.run.room import PROCESS, Node, features, shortages, trial
from search_spaces.loading import validate

GB = 1e9


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    asked: dict[str, Any] = {"method": "concat", "data": "synthetic", "objective": {"metric": "valid/mae"}}
    asked["space"] = {"encoder.width": {"choices": [8, 64]}}
    return list(prepare(validate(asked)).plan.studies)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load("synthetic")


def huge(corpus: Corpus, samples: int, steps: int) -> Corpus:
    """With features that take no memory themselves: one number, seen everywhere."""
    splits = {
        name: replace(
            split,
            inputs={"text": np.broadcast_to(np.float32(0), (samples, steps, 768))},
            masks={"text": np.broadcast_to(np.bool_(1), (samples, steps))},
            targets=np.zeros(samples, np.float32),
        )
        for name, split in corpus.splits.items()
    }
    return replace(corpus, splits=splits)


def said(studies: list[Study], corpus: Corpus, *nodes: Node, mapped: bool = False) -> str:
    return shortages(studies, {studies[0].data_fingerprint: corpus}, nodes, mapped=mapped)


def test_nothing_is_said_where_all_fits_or_nobody_knows(studies: list[Study], corpus: Corpus) -> None:
    assert said(studies, corpus, Node(slots=4, memory=8 * GB, store=2 * GB)) == ""
    assert said(studies, corpus, Node(slots=4)) == ""
    assert said(studies, corpus, Node(slots=0, memory=0.1 * GB, store=0.1 * GB)) == "", "a head that trains nothing"


def test_a_corpus_beyond_the_object_store_is_told_with_what_to_do(studies: list[Study], corpus: Corpus) -> None:
    large = huge(corpus, 10_000, 50)
    assert features([large]) == 3 * 10_000 * 50 * (4 * 768 + 1)
    node = Node(slots=1, memory=10 * GB, store=4 * GB)
    line = said(studies, large, node)
    assert "the corpora take 4.6 GB of the object store of each node, and one has 4.0 GB" in line
    assert "--object-store-memory=6000000000" in line
    assert said(studies, large, node, mapped=True) == "", "pages of a file are no matter"


def test_trials_beyond_the_memory_of_a_node_are_told_with_how_many_fit(studies: list[Study], corpus: Corpus) -> None:
    nodes = [Node(slots=16, memory=5 * GB, store=1 * GB), Node(slots=16, memory=50 * GB, store=1 * GB)]
    certain, each = trial(studies[0], corpus)
    assert PROCESS < certain < each < 0.5 * GB
    line = said(studies, corpus, *nodes)
    assert f"16 trials at a time take about {16 * each / GB:.1f} GB of memory" in line
    assert f"and a node has 6.0 GB for them: --max-concurrent {2 * int(6 * GB // each)} helps" in line


def test_one_trial_beyond_a_node_is_told_with_what_to_make_smaller(studies: list[Study], corpus: Corpus) -> None:
    line = said(studies, huge(corpus, 1_000, 5_000), Node(slots=1, memory=1 * GB), mapped=True)
    assert "a smaller training.batch_size or encoder helps" in line
