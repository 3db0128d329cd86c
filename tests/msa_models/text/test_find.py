"""Finding a pretrained encoder: what is taken, and one clear line for everything that cannot be."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from msa_models.text.encoder import TextEncoder
from msa_models.text.find import ENCODERS, EncoderError, absolute, find
from msa_models.text.load import load, tokenizer_of
from tests import tiny_encoders


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    for name, build in tiny_encoders.BUILDERS.items():
        build(folder / name)
    return folder


@pytest.fixture
def bert(built: Path, tmp_path: Path) -> Path:
    """One to damage."""
    return Path(shutil.copytree(built / "bert", tmp_path / "bert"))


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which may not be asked."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(hub: Path, name: str, files: Path) -> None:
    """Put a model where the hub's own client would."""
    folder = hub / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    shutil.copytree(files, folder / "snapshots" / ("0" * 40))


def line_of(name: str | Path) -> str:
    with pytest.raises(EncoderError) as caught:
        find(str(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", tiny_encoders.BUILDERS)
def test_a_local_folder_is_an_encoder_with_all_its_files(built: Path, kind: str) -> None:
    found = find(str(built / kind))
    assert {"config.json", "model.safetensors", "tokenizer_config.json"} < set(found.files)
    assert ("spm.model" in found.files) == (kind == "deberta")
    assert found.most_tokens == {"bert": 128, "deberta": None}[kind]


@pytest.mark.parametrize("name", ["bert-base-uncased", "somebody/an-encoder"])
def test_a_model_of_the_hub_is_found_in_this_machine_s_cache_without_asking_anybody(
    hub: Path, built: Path, name: str
) -> None:
    cached(hub, name, built / "bert")
    assert find(name).fingerprint == find(str(built / "bert")).fingerprint
    assert absolute(name) == name


def test_a_local_folder_comes_before_a_model_of_the_same_name(
    hub: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(hub, "deberta", built / "deberta")
    shutil.copytree(built / "bert", tmp_path / "here" / "deberta")
    monkeypatch.chdir(tmp_path / "here")
    assert find("deberta").config["model_type"] == "bert"
    assert absolute("deberta") == absolute("./deberta") == absolute("../here/deberta") == f"{tmp_path}/here/deberta"


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt", "config.json", "tokenizer_config.json"])
def test_whatever_changes_in_a_file_changes_the_fingerprint(bert: Path, name: str) -> None:
    before = find(str(bert)).fingerprint
    content = (bert / name).read_bytes()
    (bert / name).write_bytes(content.replace(b"e", b"f") if name == "vocab.txt" else content + b" ")
    assert find(str(bert)).fingerprint != before
    (bert / name).write_bytes(content)
    (bert / "README.md").write_text("words about it")
    assert find(str(bert)).fingerprint == before


def test_what_is_not_here_is_named_with_how_to_get_it_and_where_to_put_it(hub: Path) -> None:
    line = line_of("microsoft/deberta-v3-base")
    assert f"not in this machine's cache ({hub}), and HF_HUB_OFFLINE is set" in line
    assert "`hf download microsoft/deberta-v3-base --local-dir deberta-v3-base`" in line
    assert line.endswith("text_encoder.name=./deberta-v3-base")


def test_what_is_not_here_is_downloaded_where_that_is_allowed_and_no_pickle_with_it(
    hub: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    wanted: list[str] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        wanted.extend(allow_patterns)
        cached(hub, name, built / "deberta")
        return str(hub / "models--some--encoder" / "snapshots" / ("0" * 40))

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find("some/encoder").fingerprint == find(str(built / "deberta")).fingerprint
    assert {"config.json", "model.safetensors", "spm.model"} < set(wanted)
    assert not any(fnmatch(name, pattern) for name in ("pytorch_model.bin", "modeling.py") for pattern in wanted)
    wanted.clear()
    find("some/encoder")
    assert wanted == []  # it is in the cache now


def test_a_hub_that_cannot_be_reached_or_has_no_such_model_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    missing = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    for error, line in (
        (
            LocalEntryNotFoundError("Name or service not known\nCheck your connection"),
            "the hub cannot be reached (Name",
        ),
        (
            ConnectionError("refused"),
            "the hub cannot be reached (refused); on a machine with internet run `hf download",
        ),
        (missing, "the hub has none of this name that may be read from here; check the name, or log in"),
    ):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        assert line in line_of("some/encoder")


@pytest.mark.slow
def test_the_command_that_it_names_is_one_of_the_installed_client() -> None:
    command = [Path(sys.executable).parent / "hf", "download", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=True)
    assert "--local-dir" in shown.stdout


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return remove


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def sharded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))


def configured(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (without("config.json"), "there is no config.json in"),
        (without("model.safetensors"), "there is no model.safetensors in"),
        (without("vocab.txt", "tokenizer.json"), "there is no tokenizer in"),
        (pickled, r"only a pickle \(pytorch_model.bin\), which is not opened here, convert it .* python -c"),
        (sharded, "there is no model-00002-of-00002.safetensors in"),
        (configured(model_type="gpt2"), "it is a gpt2, not an encoder of text alone"),
        (configured(model_type="t5", is_encoder_decoder=True), "it is a t5, not an encoder"),
        (configured(model_type="my-own", auto_map={"AutoModel": "own.Model"}), "it is a my-own, not an encoder"),
        (configured(is_decoder=True), "it has a decoder; expected a model such as BERT"),
        (lambda folder: (folder / "config.json").write_text("{"), "a JSON file in .* cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "a JSON file in .* cannot be read"),
    ],
    ids=["config", "weights", "tokenizer", "pickle", "shard", "decoder", "both", "foreign", "decoding", "cut", "list"],
)
def test_a_folder_that_cannot_be_used_is_told_by_what_is_wrong_with_it(
    bert: Path, damage: Callable[[Path], None], line: str
) -> None:
    damage(bert)
    with pytest.raises(EncoderError, match=line):
        find(str(bert))
    assert str(bert) in line_of(bert)


def sparse(name: str, size: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return write


def linked(name: str, target: str) -> Callable[[Path], None]:
    def link(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return link


def piped(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def indexed(target: object) -> Callable[[Path], None]:
    def index(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": target}}))

    return index


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "deep": (lambda folder: (folder / "config.json").write_text('{"a":' + "[" * 10**5), "nested more than 100 deep"),
    "a key twice": (lambda folder: (folder / "config.json").write_text('{"a": 1, "a": 2}'), "'a' is given twice"),
    "huge": (sparse("config.json", 2**40), "config.json is larger than 100,000,000 bytes"),
    "a huge tokenizer": (sparse("tokenizer.json", 2**40), "tokenizer.json in .* is larger than"),
    "a pipe": (piped, "there is no config.json in"),
    "a device": (linked("config.json", "/dev/zero"), "there is no config.json in"),
    "a link to itself": (linked("config.json", "config.json"), "there is no config.json in"),
    "weights that are a device": (linked("model.safetensors", "/dev/zero"), "there is no model.safetensors in"),
    "weights elsewhere": (indexed("../../etc/passwd"), "names '../../etc/passwd', which is no file beside it"),
    "weights of no name": (indexed(5), "a JSON file in .* cannot be read"),
    "a large vocabulary": (configured(vocab_size=10**12), "describes at least .* weights, but their files"),
    "wide": (configured(hidden_size=10**6), "describes at least .* weights, but their files"),
    "many layers": (configured(num_hidden_layers=10**9), "describes at least .* weights, but their files"),
    "many positions": (configured(max_position_embeddings=10**12), "describes at least .* weights, but their files"),
    "no kind": (configured(model_type=["bert"]), "not an encoder of text alone"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_folder_that_is_made_to_do_harm_is_one_line(kind: str, bert: Path) -> None:
    harm, line = HOSTILE[kind]
    harm(bert)
    assert re.search(line, line_of(bert))


def test_what_is_no_folder_and_no_name_of_the_hub_is_refused(tmp_path: Path) -> None:
    assert "there is no such folder" in line_of(tmp_path / "nowhere")
    assert "there is no such folder" in line_of("./nowhere")
    assert "no such folder, and no name of the hub" in line_of("a/b/c")


def test_the_types_taken_are_those_that_transformers_knows_as_masked_language_models() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    assert set(MODEL_FOR_MASKED_LM_MAPPING_NAMES) >= ENCODERS >= {"bert", "roberta", "deberta-v2", "electra"}


def test_the_default_encoder_is_one_of_the_hub() -> None:
    assert absolute(TextEncoder().name) == TextEncoder().name


@pytest.mark.parametrize("kind", tiny_encoders.BUILDERS)
def test_loading_gives_the_saved_weights_by_name_and_draws_nothing(built: Path, kind: str) -> None:
    from safetensors.numpy import load_file

    found = find(str(built / kind))
    first, second = load(found), load(found)
    assert (first.name, first.fingerprint, first.width) == (found.name, found.fingerprint, tiny_encoders.WIDTH)
    assert first.config == found.config
    saved = load_file(built / kind / "model.safetensors")
    for name, array in first.weights.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, second.weights[name])
    as_saved = {name.removeprefix("bert.").replace("gamma", "weight").replace("beta", "bias") for name in saved}
    assert as_saved <= set(first.weights)


def test_weights_that_are_missing_are_an_error_and_no_random_ones(bert: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(bert / "model.safetensors")
    gone = next(name for name in weights if "attention.self.query.weight" in name)
    del weights[gone]
    save_file(weights, bert / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match=r"1 of its weights are missing .* such as encoder.layer.0.attention.self"):
        load(find(str(bert)))


def test_damaged_weights_are_one_line(bert: Path) -> None:
    (bert / "model.safetensors").write_bytes(100_000 * b"not weights at all")
    with pytest.raises(EncoderError, match=r"its weights in .* cannot be read"):
        load(find(str(bert)))


@pytest.mark.parametrize("header", [2**63, 10**7, 40])
def test_weights_whose_header_lies_about_its_size_are_one_line(header: int, bert: Path) -> None:
    whole = (bert / "model.safetensors").read_bytes()
    (bert / "model.safetensors").write_bytes(header.to_bytes(8, "little") + whole[8:])
    with pytest.raises(EncoderError, match=r"its weights in .* cannot be read"):
        load(find(str(bert)))


def test_code_that_comes_with_an_encoder_is_not_run(bert: Path) -> None:
    marker = bert / "ran"
    (bert / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Model: ...\nclass Config: ...\n")
    configured(auto_map={"AutoModel": "own.Model", "AutoConfig": "own.Config"})(bert)
    settings = json.loads((bert / "tokenizer_config.json").read_text())
    (bert / "tokenizer_config.json").write_text(
        json.dumps(settings | {"auto_map": {"AutoTokenizer": ["own.Model"] * 2}})
    )
    found = find(str(bert))
    for read in (load, tokenizer_of):
        with contextlib.suppress(EncoderError):
            read(found)
    assert not marker.exists()


def test_a_tokenizer_that_needs_a_package_that_is_not_here_is_one_line(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    def missing(*_: object, **__: object) -> None:
        raise ImportError("DebertaV2Tokenizer requires the SentencePiece library\nbut it was not found")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", missing)
    with pytest.raises(EncoderError, match=r"cannot be read .DebertaV2Tokenizer requires the SentencePiece lib"):
        tokenizer_of(find(str(built / "deberta")))


def test_reading_an_encoder_says_nothing(built: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(find(str(built / "bert")))
    tokenizer_of(find(str(built / "deberta")))
    assert capfd.readouterr() == ("", "")
