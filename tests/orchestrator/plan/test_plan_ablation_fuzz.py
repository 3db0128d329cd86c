"""Ablation sections that pass the schema, planned on corpora of one and of three modalities: a plan or faults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_models import data
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.corpora import CorpusInfo
from search_spaces.faults import ExperimentError
from search_spaces.loading import validate
from search_spaces.schema import Experiment

COMPONENTS = ["conflict_penalty", "gated_fusion", "statistical_loss", "ogm_ge", "text", "audio", "no_such"]
PATHS = [
    *("conflict_penalty.threshold", "encoder.width", "training.epochs", "training.learning_rate", "ogm_ge.alpha"),
    *("conflict_penalty", "training", "statistical_loss.weight", "data", "method", "encoder.kind"),
]
SMALL = {"num_train": 16, "num_valid": 8, "num_test": 8}
CORPUS = data.load("synthetic", options=SMALL)
INFOS = {size: CorpusInfo.of(CORPUS.select(("text", "audio", "vision")[:size])) for size in (1, 3)}

some = st.lists(st.sampled_from(COMPONENTS), min_size=1, max_size=4, unique=True) | st.just("all")
scalars = st.sampled_from([None, True, 0, 1, 2.5, -1, 1e30, 32, "conv", "x", ""])
ranges = st.just({"low": 0.1, "high": 0.9}) | st.just({"low": 1, "high": 4}) | st.just({"choices": [16, 32]})
sections = st.fixed_dictionaries(
    {},
    optional={
        "leave_one_out": some,
        "additive": some,
        "factorial": some | st.fixed_dictionaries({"components": some, "resolution": st.integers(3, 5)}),
        "swap": st.dictionaries(
            st.sampled_from(COMPONENTS),
            st.lists(
                st.sampled_from(["ogm_ge", "agm", "shapley_modulation", "text"]), min_size=1, max_size=2, unique=True
            ),
            max_size=2,
        ),
        "modalities": st.lists(
            st.sampled_from(["text", "audio", "text+audio", "vision"]), min_size=1, max_size=3, unique=True
        )
        | st.just("all"),
        "sensitivity": st.dictionaries(
            st.sampled_from(PATHS), st.lists(scalars, min_size=1, max_size=3, unique_by=repr), max_size=2
        ),
        "space": st.dictionaries(st.sampled_from(PATHS), ranges, max_size=1),
        "tuning": st.sampled_from(["none", "shared", "per_variant"]),
        "seeds": st.integers(2, 5) | st.just({"min": 2, "max": 5, "until": 0.1}),
    },
)


def accepted(section: dict[str, Any], space: dict[str, Any]) -> Experiment | None:
    """The experiment, if its schema lets it through."""
    minimal = {"method": "cpsl", "data": "synthetic", "objective": {"metric": "valid/mae"}, "space": space}
    try:
        return validate(minimal | {"ablation": section})
    except ExperimentError:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("num_modalities", INFOS)
@settings(max_examples=200, deadline=None, derandomize=True)
@given(section=sections, space=st.dictionaries(st.sampled_from(PATHS), ranges, max_size=2))
def test_any_section_that_the_schema_accepts_is_a_plan_or_faults_of_one_line_each(
    num_modalities: int, section: dict[str, Any], space: dict[str, Any]
) -> None:
    experiment = accepted(section, space)
    if experiment is None:
        return
    try:
        planned = plan_ablation(experiment, [INFOS[num_modalities]])
    except ExperimentError as error:
        lines, faults = str(error).splitlines(), error.faults
        assert len(lines) == len(faults) > 0
    else:
        assert planned.grid is not None
        assert planned.studies[0].variant.name == "full"
        assert len({study.study_id for study in planned.studies}) == len(planned.studies)
