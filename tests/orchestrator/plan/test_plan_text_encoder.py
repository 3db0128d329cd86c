"""Text encoders in a plan: which ones a study can come to, what it is then identified by, and what cannot be read."""

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from msa_models.text.encoder import TextEncoder
from orchestrator.plan import corpora as texts
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.corpora import CorpusInfo, EncoderInfo, text_encoders
from orchestrator.plan.plan import Plan, plan
from orchestrator.plan.studies import Study
from orchestrator.run.messages import inputs_key
from search_spaces.faults import ExperimentError
from search_spaces.loading import validate

KNOWN = {"bert-base-uncased": "bbbb", "roberta-base": "rrrr", "/models/own": "oooo"}
MINIMAL: dict[str, Any] = {"method": "cpsl", "data": "synthetic", "objective": {"metric": "valid/mae"}}


def encoder(name: str) -> EncoderInfo:
    if name not in KNOWN:
        raise ValueError(f"text encoder {name}: it is nowhere")
    return EncoderInfo(fingerprint=KNOWN[name], most_tokens=512, num_layers=12)


@pytest.fixture
def corpus(corpus: CorpusInfo) -> CorpusInfo:
    """One that says something."""
    return replace(corpus, texts="7e47", encoder=encoder)


def study(corpus: CorpusInfo, **experiment: Any) -> Study:
    (found,) = plan(validate(MINIMAL | experiment), corpus).studies
    return found


def faults(corpus: CorpusInfo, **experiment: Any) -> dict[str, str]:
    asked = validate(MINIMAL | experiment)
    with pytest.raises(ExperimentError) as raised:
        plan_ablation(asked, [corpus]) if "ablation" in experiment else plan(asked, corpus)
    return {fault.path: fault.message for fault in raised.value.faults}


def cells(found: Plan) -> dict[str, Study]:
    assert found.grid is not None
    return {cell.name: cell.study for cell in found.grid.cells}


def test_without_a_text_encoder_a_study_is_what_it_was_whatever_the_corpus_says(corpus: CorpusInfo) -> None:
    silent = replace(corpus, texts="")
    found = study(corpus)
    assert found.study_id == study(silent).study_id
    assert (found.data_fingerprint, found.encoders) == (corpus.fingerprint, {})
    assert text_encoders(found.fixed, found.distributions) == []
    assert inputs_key(found.data_fingerprint, found.fixed) == corpus.fingerprint


def test_texts_and_pretrained_weights_are_part_of_the_identity(corpus: CorpusInfo) -> None:
    config = {"text_encoder.name": "roberta-base"}
    found = study(corpus, config=config)
    assert found.encoders == {"roberta-base": "rrrr"}
    others = [
        replace(corpus, fingerprint="another"),
        replace(corpus, texts="other words"),
        replace(corpus, encoder=lambda name: EncoderInfo(fingerprint="other weights")),
    ]
    fingerprints = {found.data_fingerprint, *(study(each, config=config).data_fingerprint for each in others)}
    assert len(fingerprints) == 4
    assert corpus.fingerprint not in fingerprints
    assert (
        study(replace(corpus, encoder=lambda name: EncoderInfo(fingerprint=KNOWN[name])), config=config).study_id
        == found.study_id
    )


def test_an_encoder_that_a_study_cannot_come_to_is_never_looked_for(corpus: CorpusInfo) -> None:
    asked = []
    known = replace(corpus, encoder=lambda name: asked.append(name) or EncoderInfo(fingerprint="ffff"))
    space = {"text_encoder.name": {"choices": ["a", "b"]}}
    assert study(known, space=space, config={"text_encoder.mode": "frozen"}).encoders == {"a": "ffff", "b": "ffff"}
    assert asked == ["a", "b"]  # and not the default


def test_every_reading_that_the_space_can_come_to_is_named_once(corpus: CorpusInfo) -> None:
    found = study(
        corpus,
        config={"text_encoder.max_length": 32},
        space={
            "text_encoder.name": {"choices": ["bert-base-uncased", "roberta-base"]},
            "text_encoder.mode": {"choices": ["frozen", "finetune"]},
            "text_encoder.pooling": {"choices": ["cls", "tokens"]},
            "text_encoder.learning_rate": {"low": 1e-6, "high": 1e-4, "log": True},
            "training.learning_rate": {"low": 1e-4, "high": 1e-3},
        },
    )
    readings = [each.reads for each in text_encoders(found.fixed, found.distributions)]
    assert set(readings) == {
        ("features", name, pooling, 32, "float32")
        for name in ("bert-base-uncased", "roberta-base")
        for pooling in ("cls", "tokens")
    } | {("tokens", name, 32) for name in ("bert-base-uncased", "roberta-base")}
    assert len(readings) == 6


def test_a_suggestion_reads_one_of_them(corpus: CorpusInfo) -> None:
    space = {
        "text_encoder.mode": {"choices": ["frozen", "finetune"]},
        "text_encoder.max_length": {"low": 16, "high": 48, "step": 16},
    }
    found = study(corpus, space=space)
    keys = {
        inputs_key(found.data_fingerprint, {"text_encoder": asdict(each)})
        for each in text_encoders(found.fixed, found.distributions)
    }
    for mode in ("frozen", "finetune"):
        for length in (16, 32, 48):
            config = found.config({"text_encoder.mode": mode, "text_encoder.max_length": length})
            keys.remove(inputs_key(found.data_fingerprint, config))
    assert keys == set()


def test_a_range_of_more_lengths_than_could_be_encoded_is_refused_with_its_number(corpus: CorpusInfo) -> None:
    space = {"text_encoder.max_length": {"low": 16, "high": 512, "log": True}}
    (message,) = faults(corpus, space=space, config={"text_encoder": {}}).values()
    assert message.startswith("got 497 values, each of which is another encoding of the corpus; expected 16")
    just_enough = {"text_encoder.max_length": {"low": 1 + 63, "high": 63 + texts.MOST_READINGS}}
    assert study(corpus, space=just_enough).encoders


def test_what_does_not_change_what_is_read_may_be_searched_freely(corpus: CorpusInfo) -> None:
    space = {"text_encoder.trainable_layers": {"low": 1, "high": 12}, "text_encoder.warmup": {"low": 0.0, "high": 0.5}}
    assert study(corpus, space=space, config={"text_encoder.mode": "finetune"}).encoders


def test_an_encoder_that_cannot_be_had_is_a_fault_at_its_name(corpus: CorpusInfo) -> None:
    where = "config.text_encoder.name"
    assert faults(corpus, config={"text_encoder": {"name": "x"}}) == {where: "text encoder x: it is nowhere"}
    space = {"text_encoder.name": {"choices": ["roberta-base", "x", "bert-base-uncased", "y"]}}
    choices = "space.text_encoder.name.choices"
    assert faults(corpus, space=space) == {
        f"{choices}.1": "text encoder x: it is nowhere",
        f"{choices}.3": "text encoder y: it is nowhere",
    }
    studies = {"own": {}, "other": {"config": {"text_encoder.name": "x"}}}
    assert list(faults(corpus, studies=studies)) == ["studies.other.config.text_encoder.name"]


def test_a_corpus_without_texts_is_a_fault_that_says_what_it_lacks(corpus: CorpusInfo) -> None:
    silent = replace(corpus, texts="")
    (found,) = faults(silent, config={"text_encoder.name": "x"}).items()
    assert found[0] == "config.text_encoder.name"
    assert found[1].startswith("synthetic has neither raw texts (raw_text) nor token ids (text_bert)")
    assert list(faults(silent, space={"text_encoder.mode": {"choices": ["frozen"]}})) == ["space.text_encoder.mode"]


def test_an_encoder_whose_text_nobody_uses_is_a_fault(corpus: CorpusInfo) -> None:
    (found,) = faults(corpus, config={"text_encoder": {}}, modalities=["audio", "vision"]).items()
    assert found[0] == "config.text_encoder"
    assert found[1].startswith("got a text encoder, but text is not among the modalities (audio, vision); remove it")


def test_leaving_out_the_encoder_leaves_the_corpus_own_text_features(corpus: CorpusInfo) -> None:
    experiment = {
        "config": {"text_encoder.mode": "finetune"},
        "space": {
            "text_encoder.learning_rate": {"low": 1e-6, "high": 1e-4, "log": True},
            "encoder.width": {"choices": [32, 64]},
        },
        "ablation": {"leave_one_out": ["text_encoder", "conflict_penalty"], "control": False},
    }
    found = cells(plan_ablation(validate(MINIMAL | experiment), [corpus]))
    assert list(found) == ["full", "without text_encoder", "without conflict_penalty"]
    assert found["full"].encoders == found["without conflict_penalty"].encoders == {"bert-base-uncased": "bbbb"}
    without = found["without text_encoder"]
    assert (without.encoders, without.data_fingerprint) == ({}, corpus.fingerprint)
    assert without.fixed["text_encoder"] is None
    assert list(without.distributions) == ["encoder.width"]
    assert without.variant.modalities == corpus.modalities


@pytest.mark.parametrize("tuning", ["none", "shared", "per_variant"])
def test_cells_without_text_are_without_its_encoder(corpus: CorpusInfo, tuning: str) -> None:
    experiment = {
        "config": {"text_encoder.mode": "frozen", "text_encoder.pooling": "cls"},
        "space": {"text_encoder.name": {"choices": ["roberta-base", "bert-base-uncased"]}},
        "ablation": {"leave_one_out": ["text", "audio"], "modalities": "all", "tuning": tuning},
    }
    for name, each in cells(plan_ablation(validate(MINIMAL | experiment), [corpus])).items():
        assert bool(each.encoders) == ("text" in each.variant.modalities), name
        assert (each.fixed["text_encoder"] is not None) == ("text" in each.variant.modalities), name
        assert (each.data_fingerprint == corpus.fingerprint) == ("text" not in each.variant.modalities), name


def test_sensitivity_compares_encoders_and_how_they_are_used(corpus: CorpusInfo) -> None:
    experiment = {
        "config": {"text_encoder": {}},
        "ablation": {
            "sensitivity": {
                "text_encoder.name": ["bert-base-uncased", "roberta-base"],
                "text_encoder.mode": ["frozen", "finetune"],
            },
            "tuning": "none",
        },
    }
    found = cells(plan_ablation(validate(MINIMAL | experiment), [corpus]))
    assert found["text_encoder.name=roberta-base"].encoders == {"roberta-base": "rrrr"}
    assert found["text_encoder.name=bert-base-uncased"] is found["text_encoder.mode=frozen"] is found["full"]
    assert len({each.study_id for each in found.values()}) == 3
    experiment["ablation"]["sensitivity"]["text_encoder.name"].append("x")
    path = "ablation.sensitivity.text_encoder.name"
    assert faults(corpus, **experiment) == {path: "text encoder x: it is nowhere"}


def test_one_corpus_of_several_without_texts_is_named(corpus: CorpusInfo) -> None:
    silent = replace(corpus, name="mosei", fingerprint="eeee", texts="")
    experiment = {"config": {"text_encoder": {}}, "ablation": {"leave_one_out": "all"}}
    with pytest.raises(ExperimentError, match=r"mosei has neither raw texts .* \(of mosei\)"):
        plan_ablation(validate(MINIMAL | experiment), [corpus, silent])


def test_fields_that_decide_what_is_read_are_those_of_the_encoder_itself() -> None:
    changed = {"name": "x", "pooling": "cls", "max_length": 8, "dtype": "bfloat16", "mode": "finetune"}
    assert set(changed) == set(texts._READING)
    for name, value in changed.items():
        assert TextEncoder(**{name: value}).reads != TextEncoder().reads
    same = {"learning_rate": 1.0, "weight_decay": 1.0, "warmup": 0.5, "trainable_layers": 3}
    for name, value in (same | {"gradient_checkpointing": True}).items():
        for mode in ("frozen", "finetune"):
            assert TextEncoder(**{"mode": mode, name: value}).reads == TextEncoder(mode=mode).reads  # pyright: ignore


def test_more_tokens_or_layers_than_an_encoder_has_are_a_fault_of_the_plan(corpus: CorpusInfo) -> None:
    found = faults(
        corpus,
        config={"text_encoder": {"mode": "finetune", "max_length": 513}},
        space={"text_encoder.trainable_layers": {"choices": [None, 4, 13]}},
    )
    assert found == {
        "config.text_encoder.max_length": "got 513, but bert-base-uncased reads at most 512 tokens",
        "space.text_encoder.trainable_layers": "got 13, but bert-base-uncased has 12 layers; "
        "leave it out (null) to train everything",
    }
    frozen = {"max_length": 512, "trainable_layers": 13}  # of which nothing is trained
    assert study(corpus, config={"text_encoder": frozen}).encoders == {"bert-base-uncased": "bbbb"}


def test_the_example_of_the_readme_is_a_plan(corpus: CorpusInfo) -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    [example] = re.findall(r"```yaml\n(.*?text_encoder.*?)```", readme, flags=re.DOTALL)
    found = study(corpus, **yaml.safe_load(example))
    assert [encoder.mode for encoder in text_encoders(found.fixed, found.distributions)] == ["frozen", "finetune"]
