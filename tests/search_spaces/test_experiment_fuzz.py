"""Whatever arrives, an Experiment or an ExperimentError leaves."""

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.ablation import DESIGNS, Ablation, only
from search_spaces.faults import ExperimentError
from search_spaces.loading import Loaded, load
from search_spaces.schema import Experiment

MINIMAL = {"method": "cpsl", "data": "synthetic", "objective": {"metric": "valid/mae"}}
WORDS = [
    *Experiment.model_fields,
    *Ablation.model_fields,
    *("source", "task", "metric", "direction", "trials", "sampler", "seed", "pruner", "kind", "seeds", "cpu", "low"),
    *("high", "log", "step", "choices", "training", "epochs", "training.epochs", "a.b", "", ".", "<<", "<range>", "\n"),
]
words = st.sampled_from(WORDS)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10) | st.just(10**30),
    st.floats(),
    st.sampled_from(["valid/mae", "test/mae", "tpe", "asha", "minimize", "text", "1e-3", "\x85", "é"]),
    st.text(max_size=5),
)
things = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))
entries = st.dictionaries(st.sampled_from(["low", "high", "log", "step", "choices"]), things, max_size=4)
likely = st.fixed_dictionaries(
    {},
    optional={
        "config": st.dictionaries(words, things, max_size=3),
        "space": st.dictionaries(words, entries | things, max_size=3),
        "modalities": st.lists(scalars, max_size=2),
        "confirm": st.fixed_dictionaries({"seeds": things}),
        "search": st.dictionaries(words, things, max_size=3),
        "data": things,
        "swap": st.dictionaries(words, scalars, max_size=2),
        "studies": st.dictionaries(
            words,
            things
            | st.dictionaries(
                st.sampled_from(["method", "modalities", "swap", "config", "space", "search"]),
                st.dictionaries(words, entries | things, max_size=2) | things,
                max_size=3,
            ),
            max_size=2,
        ),
    },
)
COMPONENTS = ["conflict_penalty", "gated_fusion", "statistical_loss", "ogm_ge", "text", "audio", "all", "", "a.b"]
component_names = st.sampled_from(COMPONENTS)
named = st.lists(component_names | things, max_size=4) | component_names | things
sections = st.fixed_dictionaries(
    {},
    optional={
        "leave_one_out": named,
        "additive": named,
        "factorial": named
        | st.fixed_dictionaries({"components": named}, optional={"resolution": st.integers(2, 6) | things}),
        "swap": st.dictionaries(component_names, named, max_size=3) | things,
        "modalities": st.lists(named | st.just("text+audio"), max_size=3) | named,
        "sensitivity": st.dictionaries(words | component_names, st.lists(things, max_size=3) | things, max_size=3)
        | things,
        "corpora": st.lists(st.sampled_from(["a.pkl", "synthetic"]) | things, max_size=2) | things,
        "space": st.dictionaries(words, entries | things, max_size=2) | things,
        "tuning": st.sampled_from(["none", "shared", "per_variant", "both"]) | things,
        "seeds": st.fixed_dictionaries({"min": things, "max": things, "until": things})
        | st.builds(lambda low, more, until: {"min": low, "max": low + more, "until": until}, *[st.integers(-1, 9)] * 3)
        | st.lists(st.integers(-1, 4), max_size=4)
        | things,
        "alpha": st.floats(-0.5, 1.5) | things,
    },
)
overrides = st.lists(
    st.builds(
        lambda path, value: f"{'.'.join(path)}={value}",
        st.lists(words, max_size=4),
        things.map(lambda thing: yaml.safe_dump(thing, default_flow_style=True)) | st.text(max_size=6),
    )
    | st.text(max_size=8),
    max_size=3,
)


def outcome_of(text: bytes, changes: list[str]) -> Loaded | ExperimentError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        path.write_bytes(text)
        try:
            return load(path, changes)
        except ExperimentError as error:
            return error


def check(outcome: Loaded | ExperimentError) -> None:
    if isinstance(outcome, Loaded):
        assert Experiment.model_validate_json(outcome.experiment.model_dump_json()) == outcome.experiment
    else:
        assert outcome.faults
        assert len(str(outcome).splitlines()) == len(outcome.faults)
        assert all(fault.place for fault in outcome.faults)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(changes=likely | st.dictionaries(words, things, max_size=4), sets=st.just([]) | overrides)
def test_any_structure_and_any_override_is_an_experiment_or_faults(changes: dict, sets: list[str]) -> None:
    check(outcome_of(yaml.safe_dump(MINIMAL | changes, allow_unicode=True).encode(), sets))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(text=st.binary(max_size=60) | things.map(lambda thing: yaml.safe_dump(thing).encode()))
def test_any_bytes_are_an_experiment_or_faults(text: bytes) -> None:
    check(outcome_of(text, []))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    section=sections | things,
    sets=st.just([]) | overrides,
    designs=st.lists(st.sampled_from([*DESIGNS, "leave_one", ""]), max_size=3),
)
def test_any_ablation_section_and_any_choice_of_its_designs_is_an_experiment_or_faults(
    section: object, sets: list[str], designs: list[str]
) -> None:
    outcome = outcome_of(yaml.safe_dump(MINIMAL | {"ablation": section}, allow_unicode=True).encode(), sets)
    check(outcome)
    if isinstance(outcome, Loaded) and designs:
        try:
            chosen = only(outcome.experiment.ablation, designs)
        except ExperimentError as error:
            check(error)
        else:
            assert set(chosen.designs) <= set(designs)
            assert all(getattr(chosen, name) == getattr(outcome.experiment.ablation, name) for name in _BESIDES)


_BESIDES = [name for name in Ablation.model_fields if name not in DESIGNS]
