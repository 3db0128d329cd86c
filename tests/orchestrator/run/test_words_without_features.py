"""Corpora without text features: an encoder makes text a modality of raw texts, or of their token ids."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msa_models import data
from msa_models.data import SPLITS
from msa_models.data.describe import describe
from orchestrator.run.launch import record_of
from orchestrator.run.preparation import Prepared, prepare
from orchestrator.run.resumption import stored
from orchestrator.store import Store
from orchestrator.views.corpus_view import corpus as shown
from search_spaces.faults import ExperimentError
from search_spaces.loading import validate
from tests import tiny_encoders
from tests.orchestrator.run.test_inputs import OPTIONS, SMALL, only, trained

Save = Callable[..., str]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Local folders, by kind."""
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: str(build(folder / kind)) for kind, build in tiny_encoders.BUILDERS.items()}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """A corpus file with these features, its raw texts or their ids by a tokenizer; the path."""

    def write(*features: str, texts: bool = True, tokenizer: str = "", shift: int = 0) -> str:
        corpus, raw = data.load("synthetic", options=OPTIONS), {}
        for name, split in corpus.splits.items():
            assert split.texts is not None
            raw[name] = {"regression_labels": split.targets, "id": split.ids}
            raw[name] |= {modality: split.inputs[modality] for modality in features}
            raw[name] |= {"raw_text": split.texts} if texts else {}
            raw[name] |= {"text_bert": token_ids(tokenizer, split.texts.tolist(), shift)} if tokenizer else {}
        path = tmp_path / f"said_{'_'.join(features)}.pkl"
        path.write_bytes(pickle.dumps(raw))
        return str(path)

    return write


def token_ids(folder: str, texts: list[str], shift: int = 0) -> np.ndarray:
    """(N, 3, 100) float32, as MMSA's files have them: ids, mask and segments."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder)(texts, padding="max_length", truncation=True, max_length=100)
    ids, mask = np.array(found["input_ids"]), np.array(found["attention_mask"])
    return np.stack([ids + shift * mask, mask, np.zeros_like(ids)], axis=1).astype(np.float32)


def prepared(source: str, config: Mapping[str, Any], ablate: bool = False, **experiment: Any) -> Prepared:
    asked = {
        "method": "cpsl",
        "data": source,
        "objective": {"metric": "valid/mae"},
        "config": {**SMALL, **config},
        "search": {"trials": 2, "startup": 2, "pruner": {"kind": "none"}},
        "confirm": {"seeds": 2 if ablate else 0},
    }
    return prepare(validate(asked | experiment), ablation=ablate)


def faults(source: str, config: Mapping[str, Any], **experiment: Any) -> dict[str, str]:
    with pytest.raises(ExperimentError) as raised:
        prepared(source, config, **experiment)
    return {fault.path: fault.message for fault in raised.value.faults}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_an_encoder_makes_a_modality_of_raw_texts_as_it_does_where_there_are_features(
    mode: str, encoders: Mapping[str, str], save: Save, tmp_path: Path
) -> None:
    config = {"text_encoder": {"name": encoders["bert"], "mode": mode}}
    without, own = (prepared(save(*names), config) for names in (("audio", "vision"), ("text", "audio", "vision")))
    (study,) = without.plan.studies
    assert study.variant.modalities == ("text", "audio", "vision")
    assert without.warnings == []
    assert study.data_fingerprint != own.plan.studies[0].data_fingerprint
    read = [only(each, tmp_path / "runs" / "s") for each in (without, own)]
    for name in SPLITS:
        first, second = (each.splits[name] for each in read)
        np.testing.assert_array_equal(first.inputs["text"], second.inputs["text"])
        np.testing.assert_array_equal(first.masks["text"], second.masks["text"])
    rows = trained(without, tmp_path / "s")
    assert [row["state"] for row in rows] == ["COMPLETE"]
    assert rows[0]["modalities"] == "text+audio+vision"


def test_without_an_encoder_audio_and_vision_are_trained_on_and_a_warning_says_what_to_do(
    save: Save, tmp_path: Path
) -> None:
    found = prepared(save("audio", "vision"), {})
    assert found.plan.studies[0].variant.modalities == ("audio", "vision")
    assert found.warnings == [
        "said_audio_vision has no text features, only texts that a text encoder can read, and the trials are of audio, "
        "vision: --set text_encoder.name=bert-base-uncased, or any other encoder"
    ]
    assert {row["state"] for row in trained(found, tmp_path / "s")} == {"COMPLETE"}
    assert prepared(save("audio", "vision"), {}, modalities=["audio"]).warnings == []  # chosen


def test_text_that_only_an_encoder_could_read_is_a_fault_that_says_so(save: Save) -> None:
    assert faults(save("audio", "vision"), {}, modalities=["text", "audio"]) == {
        "modalities.0": "got 'text', but said_audio_vision has no text features, only texts that a text encoder can "
        "read; use one: --set text_encoder.name=bert-base-uncased, or any other encoder, or leave "
        "text out (audio, vision)"
    }
    assert faults(save(), {}) == {
        "data.source": "said_ has no text features, only texts that a text encoder can read; "
        "use one: --set text_encoder.name=bert-base-uncased, or any other encoder"
    }


@pytest.mark.slow
def test_a_corpus_of_raw_texts_alone_is_trained_with_an_encoder(
    encoders: Mapping[str, str], save: Save, tmp_path: Path
) -> None:
    found = prepared(save(), {"text_encoder": {"name": encoders["deberta"], "mode": "finetune"}})
    assert found.plan.studies[0].variant.modalities == ("text",)
    assert {row["state"] for row in trained(found, tmp_path / "s")} == {"COMPLETE"}


@pytest.mark.parametrize("features", [(), ("audio", "vision")])
def test_a_storage_is_planned_again_without_its_corpus(
    features: tuple[str, ...], encoders: Mapping[str, str], save: Save, tmp_path: Path
) -> None:
    source = save(*features)
    found = prepared(source, {"text_encoder": {"name": encoders["bert"]}})
    Store.create(tmp_path / "s", record_of(found))
    Path(source).unlink()
    again = stored(str(tmp_path / "s"))
    assert again.plan.studies[0].variant.modalities == ("text", *features)
    assert again.plan.studies[0].study_id == found.plan.studies[0].study_id


def test_an_encoder_that_is_wanted_where_nothing_is_said_is_a_fault(encoders: Mapping[str, str], save: Save) -> None:
    config = {"text_encoder.name": encoders["bert"]}
    (found,) = faults(save("audio", texts=False), config).items()
    assert found[0] == "config.text_encoder.name"
    assert "has neither raw texts (raw_text) nor token ids (text_bert)" in found[1]
    assert "remove it (text_encoder: null), or take a corpus with raw texts" in found[1]


@pytest.mark.parametrize("modalities", [None, ["text", "audio"]])
def test_an_ablation_leaves_out_text_with_the_encoder_that_alone_can_read_it(
    encoders: Mapping[str, str], save: Save, modalities: list[str] | None
) -> None:
    asked = {"leave_one_out": ["text_encoder", "text", "audio", "gated_fusion"], "modalities": "all"}
    config = {"text_encoder": {"name": encoders["bert"]}}
    found = prepared(save("audio", "vision"), config, True, modalities=modalities, ablation=asked)
    grid = found.plan.grid
    assert grid is not None
    cells = {cell.name: cell.study for cell in grid.cells}
    full = ("text", "audio") if modalities else ("text", "audio", "vision")
    assert cells["full"].variant.modalities == cells["without gated_fusion"].variant.modalities == full
    assert cells["without text_encoder"] is cells["without text"]
    assert cells["without text"].variant.modalities == full[1:]
    assert cells["without text"].encoders == {}
    assert ("text",) in {study.variant.modalities for study in cells.values()}
    for name, study in cells.items():
        assert bool(study.encoders) == ("text" in study.variant.modalities), name


def test_an_ablation_of_text_alone_keeps_the_encoder_that_reads_it(encoders: Mapping[str, str], save: Save) -> None:
    config = {"text_encoder": {"name": encoders["bert"]}}
    found = prepared(save(), config, True, ablation={"leave_one_out": "all"})
    assert found.plan.grid is not None
    names = [cell.name for cell in found.plan.grid.cells]
    assert "without gated_fusion" in names
    assert "without text_encoder" not in names


# token ids


@pytest.mark.parametrize("kind", tiny_encoders.BUILDERS)
@pytest.mark.parametrize("mode", ["frozen", "finetune"])
@pytest.mark.parametrize("max_length", [8, 64])
def test_token_ids_are_read_as_the_texts_that_they_were_made_of(
    kind: str, mode: str, max_length: int, encoders: Mapping[str, str], save: Save, tmp_path: Path
) -> None:
    config = {"text_encoder": {"name": encoders[kind], "mode": mode, "max_length": max_length}}
    texts = only(prepared(save("audio"), config), tmp_path / "runs" / "s")
    ids = only(prepared(save("audio", texts=False, tokenizer=encoders[kind]), config), tmp_path / "elsewhere" / "s")
    for name in SPLITS:
        first, second = (each.splits[name] for each in (texts, ids))
        np.testing.assert_array_equal(first.inputs["text"], second.inputs["text"])
        np.testing.assert_array_equal(first.masks["text"], second.masks["text"])
        assert second.tokens is None  # workers need them no more


@pytest.mark.slow
def test_token_ids_are_trained_on_and_a_change_of_one_is_another_corpus(
    encoders: Mapping[str, str], save: Save, tmp_path: Path
) -> None:
    config = {"text_encoder": {"name": encoders["bert"], "mode": "finetune"}}
    source = save("audio", "vision", texts=False, tokenizer=encoders["bert"])
    found = prepared(source, config)
    assert {row["state"] for row in trained(found, tmp_path / "s")} == {"COMPLETE"}
    raw = pickle.loads(Path(source).read_bytes())
    raw["test"]["text_bert"][0, 0, 1] += 1
    Path(source).write_bytes(pickle.dumps(raw))
    again = prepared(source, config)
    assert again.infos[0].fingerprint == found.infos[0].fingerprint
    assert again.plan.studies[0].data_fingerprint != found.plan.studies[0].data_fingerprint


def test_raw_texts_win_over_token_ids(encoders: Mapping[str, str], save: Save) -> None:
    found = prepared(save("audio", tokenizer=encoders["deberta"]), {"text_encoder": {"name": encoders["bert"]}})
    assert found.infos[0].texts == prepared(save("audio"), {}).infos[0].texts


def test_token_ids_of_another_encoder_are_a_fault_of_the_plan_at_its_name(
    encoders: Mapping[str, str], save: Save
) -> None:
    source = save("audio", texts=False, tokenizer=encoders["deberta"])
    (found,) = faults(source, {"text_encoder.name": encoders["bert"]}).items()
    assert found[0] == "config.text_encoder.name"
    assert "the token ids (text_bert) of 42 of 42 samples do not begin with its [CLS] (2) and end with its" in found[1]
    assert found[1].endswith("so they are of another one; name that, or use a corpus with raw texts")
    space = {"text_encoder.name": {"choices": [encoders["bert"], encoders["deberta"]]}}
    assert list(faults(source, {}, space=space)) == ["space.text_encoder.name.choices.0"]
    beyond = save("audio", texts=False, tokenizer=encoders["bert"], shift=1000)
    (found,) = faults(beyond, {"text_encoder.name": encoders["bert"]}).items()
    assert "the corpus' token ids (text_bert) go up to 1" in found[1]


@pytest.mark.parametrize(
    ("features", "given", "line"),
    [
        (("audio",), {}, "It has raw texts (fingerprint {}), which a text encoder makes a modality of."),
        (
            ("text",),
            {},
            "It has raw texts (fingerprint {}), which a text encoder can read instead of the text features.",
        ),
        (
            ("audio",),
            {"texts": False, "tokenizer": "bert"},
            "It has token ids (text_bert), but no raw texts (fingerprint {}), which a text encoder makes a "
            "modality of.",
        ),
        (("audio",), {"texts": False}, ""),
        ((), {}, "It has raw texts (fingerprint {}), which a text encoder makes a modality of."),
    ],
)
def test_a_description_says_what_an_encoder_could_read(
    features: tuple[str, ...], given: dict[str, Any], line: str, encoders: Mapping[str, str], save: Save
) -> None:
    corpus = data.load(save(*features, **given | ({"tokenizer": encoders["bert"]} if "tokenizer" in given else {})))
    found = describe(corpus)
    assert found["said"] == line.format(corpus.texts_fingerprint)
    assert line.format(corpus.texts_fingerprint) in " ".join(shown(found).split())
