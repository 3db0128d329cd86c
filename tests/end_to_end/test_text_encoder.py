"""Sweeps with a text encoder, as a user starts them: encoded once, for every storage beside each other."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyarrow import fs

from msa_models import data
from orchestrator.store import Files, Store
from orchestrator.store.encodings import Encodings, text_hash
from tests import tiny_encoders
from tests.end_to_end.conftest import Msa
from tests.end_to_end.test_object_storage import give_access
from tests.end_to_end.without_ray import said_without_ray

SWEEP = (
    *("--trials", "2", "--epochs", "3", "--set", "search.pruner.min_epochs=3", "--set", "confirm.seeds=1"),
    *("--set", "resources.max_concurrent=1", "--set", "text_encoder.name=./bert", "--data", "corpus.pkl"),
)


@pytest.fixture
def place(msa: Msa) -> Path:
    """Where the command runs: a corpus with raw texts, an encoder, and no way to the hub."""
    said = data.load("synthetic", options={"num_train": 96, "num_valid": 32, "num_test": 32, "layout": "utterances"})
    content = {
        name: {
            **split.inputs,
            "raw_text": split.texts,
            "id": split.ids.astype(object),
            "regression_labels": split.targets,
        }
        for name, split in said.splits.items()
    }
    (msa.folder / "corpus.pkl").write_bytes(pickle.dumps(content))
    tiny_encoders.bert(msa.folder / "bert")
    return msa.folder


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-cache"))


def rows(storage: Path) -> list[dict[str, object]]:
    return Store.open(storage).trials().to_pylist()


@pytest.mark.slow
def test_a_second_sweep_beside_the_first_encodes_nothing_and_changed_weights_are_refused(place: Path) -> None:
    def sweep(name: str, *options: str) -> subprocess.CompletedProcess[str]:
        return said_without_ray(place, "sweep", "cpsl", "--storage", f"runs/{name}", *SWEEP, *options)

    first = sweep("first")
    assert first.returncode == 0, first.stderr
    number = len({str(text) for split in data.load(place / "corpus.pkl").splits.values() for text in split.texts})  # pyright: ignore
    assert f"encoding {number} texts with {place}/bert (tokens, 64)" in first.stdout
    kept = sorted((place / "runs" / "encodings").rglob("*.arrow"))
    assert kept
    second = sweep("second")
    assert second.returncode == 0, second.stderr
    assert "encoding" not in second.stdout
    assert sorted((place / "runs" / "encodings").rglob("*.arrow")) == kept
    values = [[(row["trial_id"], row["value"]) for row in rows(place / "runs" / name)] for name in ("first", "second")]
    assert values[0] == values[1]
    assert len(values[0]) == 3
    assert "nothing to do: all 3 trials are finished" in sweep("first").stdout
    tiny_encoders.bert(place / "bert", seed=1)
    changed = sweep("first")
    assert changed.returncode == 2
    assert f"error: {place}/runs/first was made otherwise: encoders.{place}/bert is" in changed.stderr
    assert "--allow-changed" in changed.stderr
    allowed = sweep("first", "--allow-changed")
    assert allowed.returncode == 0, allowed.stderr
    assert f"encoding {number} texts" in allowed.stdout
    assert len(rows(place / "runs" / "first")) == 6


@pytest.mark.slow
def test_frozen_and_fine_tuned_in_one_search_and_interrupted_it_goes_on_from_another_folder(
    msa: Msa, place: Path, tmp_path: Path
) -> None:
    space = 'space.text_encoder.mode={"choices": [frozen, finetune]}'
    options = ("--set", space, "--set", "text_encoder.learning_rate=1e-3", "--trials", "5")
    begun = said_without_ray(place, "sweep", "cpsl", "--storage", "runs/both", *SWEEP, *options, most=1)
    assert begun.returncode == 130, begun.stderr
    trials = place / "runs" / "both" / "trials"
    (tmp_path / "elsewhere").mkdir()
    before = {path.name: path.read_bytes() for path in trials.glob("*.parquet")}
    assert len(before) == 1
    msa.folder = tmp_path / "elsewhere"
    resumed = msa("resume", str(place / "runs" / "both"))
    assert resumed.returncode == 0, resumed.stderr
    assert "encoding" not in resumed.stdout
    found = rows(place / "runs" / "both")
    assert len(found) == 6
    assert {row["state"] for row in found} == {"COMPLETE"}
    assert {'"mode": "finetune"' in str(row["config"]) for row in found} == {True, False}
    for name, content in before.items():
        assert (trials / name).read_bytes() == content


@pytest.mark.slow
def test_an_ablation_leaves_the_encoder_out_and_compares_another(place: Path) -> None:
    tiny_encoders.deberta(place / "deberta")
    arguments = ("--designs", "leave_one_out,sensitivity", "--components", "text_encoder,text", "--seeds", "2")
    names = "ablation.sensitivity.text_encoder.name=[./bert, ./deberta]"
    command = ("ablate", "cpsl", "--storage", "runs/a", *SWEEP, *arguments, "--tuning", "none", "--set", names)
    done = said_without_ray(place, *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("texts with") == 2
    record = Store.open(place / "runs" / "a").record
    assert record.encoders.keys() == {f"{place}/bert", f"{place}/deberta"}
    assert record.ablation is not None
    cells = {cell.variant: record.studies[cell.study_ids[0]] for cell in record.ablation.cells}
    assert [name.replace(f"{place}/", "") for name in cells] == [
        "full",
        "without text_encoder",
        "without text",
        "text_encoder.name=bert",
        "text_encoder.name=deberta",
    ]
    fingerprint = record.corpora["corpus"].fingerprint
    assert [study.data_fingerprint == fingerprint for study in cells.values()] == [False, True, True, False, False]
    assert len(rows(place / "runs" / "a")) == 8


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sweep", "describe"])
def test_an_encoder_that_is_not_here_is_one_line_before_anything_is_written(
    msa: Msa, place: Path, command: str
) -> None:
    storage = ("--storage", "runs/x") if command == "sweep" else ()
    done = msa(command, "cpsl_finetune", "--data", "corpus.pkl", *storage)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cpsl_finetune.yaml:")
    assert "text encoder bert-base-uncased: it is not in this machine's cache" in line
    assert "HF_HUB_OFFLINE is set" in line
    assert "`hf download bert-base-uncased --local-dir bert-base-uncased`" in line
    assert not (place / "runs").exists()


@pytest.mark.slow
def test_describe_shows_the_encoder_and_what_of_it_is_searched(msa: Msa, place: Path) -> None:
    done = msa("describe", "cpsl_finetune", "--data", "corpus.pkl", "--set", "text_encoder.name=bert")
    assert done.returncode == 0, done.stderr
    assert f"text encoder {place}/bert (" in " ".join(done.stdout.split())
    assert "text_encoder.learning_rate  5e-06 to 5e-05, logarithmic" in done.stdout
    assert not (place / "runs").exists()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server of the S3 protocol on this machine."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    give_access(monkeypatch, f"http://{host}:{port}")
    filesystem, path = fs.FileSystem.from_uri("s3://texts?allow_bucket_creation=true")
    filesystem.create_dir(path)
    yield "s3://texts"
    server.stop()


@pytest.mark.slow
def test_on_an_object_store_the_cache_lies_beside_the_storage_too(bucket: str) -> None:
    cache = Encodings.beside(Files.at(f"{bucket}/runs/mosi"), {"encoder": "0"})
    hashes = [text_hash(str(number)) for number in range(5)]
    features = [np.full((number + 1, 3), number, np.float32) for number in range(5)]
    assert list(cache.keep([(hashes[:2], features[:2]), (hashes[2:], features[2:])])) == [2, 3]
    (name,) = cache.files.names()
    again = Encodings.beside(Files.at(f"{bucket}/runs/another"), {"encoder": "0"})
    found = again.load(hashes)
    assert found.keys() == set(hashes)
    np.testing.assert_array_equal(found[hashes[4]], features[4])
    cache.files.write(name, cache.files.read(name)[:-9])
    assert again.load(hashes) == {}
    assert again.files.names() == [f"{name}.damaged"]
