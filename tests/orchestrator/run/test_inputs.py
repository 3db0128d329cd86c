"""From a plan with text encoders to what its trials read: encoded once, kept, standardised, shared."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msa_models import data
from msa_models.data import SPLITS, Corpus
from msa_models.text import encode, load
from msa_models.text.find import EncoderError
from orchestrator.run import launch
from orchestrator.run.campaign import Campaign
from orchestrator.run.inputs import Encoders, inputs
from orchestrator.run.launch import record_of
from orchestrator.run.messages import Outcome, inputs_key
from orchestrator.run.output import Listener
from orchestrator.run.preparation import Prepared, prepare
from orchestrator.run.provenance import Provenance, provenance
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.run.workload import train
from orchestrator.store import Files, Store
from orchestrator.store.encodings import text_hash
from orchestrator.views.live import Live
from search_spaces.loading import validate
from tests import tiny_encoders
from tests.orchestrator.run.fakes import PROVENANCE

OPTIONS = {"num_train": 24, "num_valid": 10, "num_test": 8, "layout": "utterances"}
SMALL = {"training.epochs": 2, "encoder.width": 8, "encoder.heads": 2, "training.batch_size": 8}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Local folders, by kind."""
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: str(build(folder / kind)) for kind, build in tiny_encoders.BUILDERS.items()}


def prepared(config: Mapping[str, Any], task: str = "regression", **experiment: Any) -> Prepared:
    """A sweep on the embedded corpus, of two trials where something is searched."""
    metric = {"regression": "valid/mae", "classification": "valid/f1_macro"}[task]
    asked = {
        "method": "cpsl",
        "data": {"source": "synthetic", "task": task, "options": OPTIONS},
        "objective": {"metric": metric},
        "config": {**SMALL, **config},
        "search": {"trials": 2, "startup": 2, "pruner": {"kind": "none"}},
        "confirm": {"seeds": 1},
    }
    return prepare(validate(asked | experiment))


def read(
    found: Prepared, storage: Path, known: Encoders | None = None, listener: Listener | None = None
) -> dict[str, Corpus]:
    """What its trials read."""
    corpora = {info.name: found.corpora[info.fingerprint] for info in found.infos}
    return inputs(found.plan.studies, corpora, known or found.encoders, Files.at(storage), listener)


def only(found: Prepared, storage: Path) -> Corpus:
    """The same, where there is one."""
    (corpus,) = read(found, storage).values()
    return corpus


def trained(found: Prepared, storage: Path, code: Provenance = PROVENANCE) -> list[dict[str, Any]]:
    """Run all its trials in this process; the rows of the storage."""
    store = Store.create(storage, record_of(found))
    corpora = read(found, storage)
    campaign = Campaign(store, found.plan.studies, code)
    while (assignment := campaign.next()) is not None:
        corpus = corpora[inputs_key(assignment.data_fingerprint, assignment.config)]
        runner = TrialRunner(assignment, corpus, store, train)
        while not campaign.report(assignment.trial_id, report := runner.stretch()):
            pass
        assert isinstance(report.end, Outcome), report.end
    assert campaign.done
    return store.trials().to_pylist()


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the models that are loaded from here on, and of the tokenizers."""
    loaded: list[str] = []

    def counted(module: Any, name: str) -> None:
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda found: loaded.append(found.folder.name) or original(found))

    counted(encode, "model_of")
    counted(load, "tokenizer_of")
    counted(load, "load")
    return loaded


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "mean", "tokens"])
@pytest.mark.parametrize("kind", tiny_encoders.BUILDERS)
def test_frozen_features_are_automodel_s_standardised_by_the_real_tokens_of_the_training_split(
    encoders: Mapping[str, str], tmp_path: Path, kind: str, pooling: str
) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    found = prepared({"text_encoder": {"name": encoders[kind], "pooling": pooling, "max_length": 20}})
    corpus = only(found, tmp_path / "runs" / "s")
    model, tokenizer = AutoModel.from_pretrained(encoders[kind]).eval(), AutoTokenizer.from_pretrained(encoders[kind])
    said = data.load("synthetic", options=OPTIONS)
    raw: dict[str, list[np.ndarray]] = {}
    for name in SPLITS:
        texts = said.splits[name].texts
        assert texts is not None
        raw[name] = []
        for text in texts:
            with torch.inference_mode():
                inputs = tokenizer(text, truncation=True, max_length=20, return_tensors="pt")
                hidden = model(**inputs).last_hidden_state[0].numpy()
            raw[name].append({"cls": hidden[:1], "mean": hidden.mean(0, keepdims=True), "tokens": hidden}[pooling])
    real = np.concatenate(raw["train"]).astype(np.float64)
    mean, sd = real.mean(axis=0), real.std(axis=0)
    longest = max(len(each) for split in raw.values() for each in split)
    for name, split in corpus.splits.items():
        values = split.inputs["text"]
        assert values.dtype == np.float32
        assert ("text" in split.masks) == (pooling == "tokens")
        for index, each in enumerate(raw[name]):
            expected = (each - mean) / sd
            if pooling == "tokens":
                assert values.shape == (len(split), longest, tiny_encoders.WIDTH)
                assert split.masks["text"][index].tolist() == [True] * len(each) + [False] * (longest - len(each))
                np.testing.assert_allclose(values[index, : len(each)], expected, atol=1e-4)
                assert not values[index, len(each) :].any()
            else:
                np.testing.assert_allclose(values[index], expected[0], atol=1e-4)
    assert corpus.pretrained is None
    own = found.corpora[found.infos[0].fingerprint]
    assert corpus.splits["test"].inputs["audio"] is own.splits["test"].inputs["audio"]


def test_fine_tuning_reads_token_ids_that_are_not_standardised_and_gets_the_weights(
    encoders: Mapping[str, str], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    found = prepared({"text_encoder": {"name": encoders["deberta"], "mode": "finetune", "max_length": 16}})
    corpus = only(found, tmp_path / "runs" / "s")
    tokenizer = AutoTokenizer.from_pretrained(encoders["deberta"])
    said = data.load("synthetic", options=OPTIONS)
    for name, split in corpus.splits.items():
        texts = said.splits[name].texts
        assert texts is not None
        assert split.inputs["text"].dtype == np.int64
        assert split.inputs["text"].shape == (len(split), 16)
        assert split.texts is None
        for row, mask, text in zip(split.inputs["text"], split.masks["text"], texts, strict=True):
            ids = tokenizer(text, truncation=True, max_length=16)["input_ids"]
            assert row[mask].tolist() == ids
            assert mask.tolist() == [True] * len(ids) + [False] * (16 - len(ids))
    assert corpus.pretrained is not None
    assert corpus.pretrained.fingerprint == found.encoders.info(encoders["deberta"]).fingerprint
    assert not (tmp_path / "runs" / "encodings").exists()


def test_what_is_in_the_cache_is_encoded_by_nobody_again_also_for_a_storage_beside_it(
    encoders: Mapping[str, str], tmp_path: Path, models: list[str]
) -> None:
    config = {"text_encoder": {"name": encoders["bert"]}}
    first = only(prepared(config), tmp_path / "runs" / "first")
    assert models == ["bert", "bert"]  # the model and its tokenizer
    again = only(prepared(config), tmp_path / "runs" / "first")
    beside = only(prepared(config), tmp_path / "runs" / "second")
    assert models == ["bert", "bert"]
    for other in (again, beside):
        for name in SPLITS:
            np.testing.assert_array_equal(other.splits[name].inputs["text"], first.splits[name].inputs["text"])
    only(prepared(config), tmp_path / "elsewhere" / "third")
    assert len(models) == 4


def test_only_new_texts_of_another_corpus_are_encoded_and_each_text_once(
    encoders: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    original = encode.encode

    def watched(*arguments: Any) -> Any:
        for batch, values in original(*arguments):
            batches.extend(batch)
            yield batch, values

    monkeypatch.setattr(encode, "encode", watched)
    config = {"text_encoder": {"name": encoders["bert"], "pooling": "mean"}}
    only(prepared(config), tmp_path / "runs" / "first")
    said = data.load("synthetic", options=OPTIONS)
    texts = [text for split in said.splits.values() for text in (split.texts if split.texts is not None else [])]
    assert len(batches) == len(set(texts))
    batches.clear()
    larger = {"source": "synthetic", "options": OPTIONS | {"num_valid": 13}}
    only(prepared(config, data=larger), tmp_path / "runs" / "second")
    other = data.load("synthetic", options=larger["options"])
    more = {text for split in other.splits.values() for text in (split.texts if split.texts is not None else [])}
    assert len(batches) == len(more - set(texts)) > 0
    assert len({text_hash(text) for text in texts}) == len(set(texts))


@pytest.mark.slow
def test_a_search_over_encoders_and_over_frozen_and_fine_tuned_reads_each_of_them(
    encoders: Mapping[str, str], tmp_path: Path, models: list[str]
) -> None:
    space = {
        "text_encoder.name": {"choices": [encoders["bert"], encoders["deberta"]]},
        "text_encoder.mode": {"choices": ["frozen", "finetune"]},
    }
    found = prepared({}, space=space)
    corpora = read(found, tmp_path / "runs" / "s")
    assert len(corpora) == 4
    assert sorted(models) == ["bert"] * 5 + ["deberta"] * 5  # its weights twice, its tokenizer three times
    assert sum(corpus.pretrained is not None for corpus in corpora.values()) == 2


def test_two_studies_share_what_they_read_and_one_without_an_encoder_reads_the_corpus_itself(
    encoders: Mapping[str, str], tmp_path: Path
) -> None:
    bert = {"config": {"text_encoder.name": encoders["bert"]}}
    both = {"space": {"text_encoder.name": {"choices": [encoders["bert"], encoders["deberta"]]}}}
    found = prepared({}, studies={"own": {}, "bert": bert, "both": both})
    own, of_bert, of_both = found.plan.studies
    corpora = read(found, tmp_path / "runs" / "s")
    assert corpora[own.data_fingerprint] is found.corpora[own.data_fingerprint]
    shared = [corpora[inputs_key(each.data_fingerprint, each.fixed)] for each in (of_bert, of_both)]
    assert shared[0] is shared[1]
    assert len(corpora) == 4


@pytest.mark.slow
@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("kind", tiny_encoders.BUILDERS)
def test_frozen_and_fine_tuned_trials_of_one_study_train_to_their_ends(
    encoders: Mapping[str, str], tmp_path: Path, kind: str, task: str
) -> None:
    space = {"text_encoder.mode": {"choices": ["frozen", "finetune"]}}
    search = {"trials": 6, "startup": 6, "pruner": {"kind": "none"}}
    rows = trained(prepared({"text_encoder.name": encoders[kind]}, task, space=space, search=search), tmp_path / "s")
    assert {row["state"] for row in rows} == {"COMPLETE"}
    assert len(rows) == 7
    assert {'"mode": "frozen"' in row["config"] for row in rows} == {True, False}


@pytest.mark.slow
def test_a_storage_with_nothing_left_to_train_reads_no_texts(
    encoders: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prepared({"text_encoder.name": encoders["bert"]})
    rows = trained(found, tmp_path / "s", provenance())

    def wanted(*_: Any) -> None:
        raise AssertionError("texts were wanted")

    monkeypatch.setattr(launch, "inputs", wanted)
    assert launch.launch(found, str(tmp_path / "s")).num_new == 0
    more = prepared({"text_encoder.name": encoders["bert"]}, confirm={"seeds": 2})
    assert more.plan.studies[0].study_id == rows[0]["study_id"]
    with pytest.raises(AssertionError, match="texts were wanted"):
        launch.launch(more, str(tmp_path / "s"))


def test_a_model_that_is_not_found_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def nowhere(name: str) -> None:
        asked.append(name)
        raise EncoderError("nowhere")

    monkeypatch.setattr("orchestrator.run.inputs.find", nowhere)
    known = Encoders()
    for _ in range(3):
        with pytest.raises(EncoderError, match="nowhere"):
            known.info("x")
    assert asked == ["x"]


def test_a_local_encoder_is_recorded_by_its_whole_path_wherever_it_is_named(
    encoders: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    for kind, folder in encoders.items():
        (tmp_path / "models" / kind).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    whole = {kind: f"{tmp_path}/models/{kind}" for kind in encoders}
    found = prepared(
        {"text_encoder": {"name": "./models/bert"}},
        studies={"a": {}, "b": {"space": {"text_encoder.name": {"choices": ["models/bert", "models/deberta"]}}}},
    )
    record = record_of(found)
    assert record.encoders.keys() == set(whole.values())
    assert record.texts == {"synthetic": found.infos[0].texts}
    assert record.experiment["config"]["text_encoder.name"] == whole["bert"]
    searched = record.experiment["studies"]["b"]["space"]["text_encoder.name"]["choices"]
    assert searched == [whole["bert"], whole["deberta"]]
    monkeypatch.chdir("/")
    again = prepare(validate(record.experiment))
    assert [each.study_id for each in again.plan.studies] == [each.study_id for each in found.plan.studies]


def test_the_record_of_a_sweep_without_an_encoder_says_nothing_of_texts() -> None:
    record = record_of(prepared({}))
    assert (record.texts, record.encoders) == ({}, {})


KILLED = """
import sys
from pathlib import Path
from msa_models.text import encode
from orchestrator.store import encodings
from tests.orchestrator.run.test_inputs import prepared, read
encodings.CHUNK_BYTES, encode.TOKENS_PER_BATCH = 0, 60
keep = encodings.Encodings.keep
def told(self, encoded):
    for number in keep(self, encoded):
        print(number, flush=True)
        if sys.argv[3] == "wait" and (line := sys.stdin.readline()) == "":
            break
        yield number
encodings.Encodings.keep = told
read(prepared({"text_encoder": {"name": sys.argv[1]}}), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_encoding_that_is_killed_goes_on_with_the_texts_that_are_not_there_and_the_same_bits(
    encoders: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(encode, "TOKENS_PER_BATCH", 60)
    found = prepared({"text_encoder": {"name": encoders["bert"]}})
    whole = only(found, tmp_path / "whole" / "s")
    command = [sys.executable, "-c", KILLED, encoders["bert"], str(tmp_path / "killed" / "s"), "wait"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    done = 0
    while done < 15:
        if (line := process.stdout.readline()).strip().isdecimal():
            done += int(line)
            process.stdin.write("on\n")
            process.stdin.flush()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    num_texts = sum(len(split) for split in whole.splits.values())
    capfd.readouterr()
    (resumed,) = read(found, tmp_path / "killed" / "s", listener=Live()).values()
    said = capfd.readouterr().out
    number = int(said.split()[1])
    assert said.startswith(f"encoding {number} texts with {encoders['bert']} (tokens, 64)")
    assert 0 < number <= num_texts - done
    for name in SPLITS:
        np.testing.assert_array_equal(resumed.splits[name].inputs["text"], whole.splits[name].inputs["text"])


def test_features_that_are_not_finite_are_one_line(
    encoders: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = encode.encode

    def broken(*arguments: Any) -> Any:
        for batch, values in original(*arguments):
            yield batch, [each * np.float32("nan") for each in values]

    monkeypatch.setattr(encode, "encode", broken)
    with pytest.raises(EncoderError, match="its features are not finite in float32"):
        only(prepared({"text_encoder": {"name": encoders["bert"]}}), tmp_path / "runs" / "s")


def test_a_base_corpus_is_not_changed_by_what_is_read_instead_of_its_text(
    encoders: Mapping[str, str], tmp_path: Path
) -> None:
    found = prepared({"text_encoder": {"name": encoders["bert"], "pooling": "cls"}})
    base = found.corpora[found.infos[0].fingerprint]
    before = replace(base).fingerprint
    only(found, tmp_path / "runs" / "s")
    assert replace(base).fingerprint == before


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_a_worker_needs_neither_the_files_of_the_encoder_nor_a_network(
    encoders: Mapping[str, str], tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(encoders["bert"], tmp_path / "bert")
    found = prepared({"text_encoder": {"name": str(folder), "mode": mode}})
    corpora = read(found, tmp_path / "runs" / "s")
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)

    def connect(*_: Any) -> None:
        raise AssertionError("a worker went to the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    store = Store.create(tmp_path / "s", record_of(found))
    assignment = Campaign(store, found.plan.studies, PROVENANCE).next()
    assert assignment is not None
    corpus = corpora[inputs_key(assignment.data_fingerprint, assignment.config)]
    assert isinstance(TrialRunner(assignment, corpus, store, train).stretch().end, Outcome)
