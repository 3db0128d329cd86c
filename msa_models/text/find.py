"""A pretrained encoder by name: a local folder, or a model of the hub, first looked for in the hub's local cache.

Nothing in it is run or unpickled: weights are safetensors, and code that comes with a model is never used.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from msa_models.plain_json import parsed
from msa_models.printable import command

ENCODERS = frozenset(  # the types of model (config.json) that are encoders of text, and nothing else
    [
        *("albert", "bert", "big_bird", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert"),
        *("electra", "ernie", "eurobert", "flaubert", "ibert", "longformer", "luke", "megatron-bert", "mobilebert"),
        *("modernbert", "mpnet", "mra", "nomic_bert", "rembert", "roberta", "roberta-prelayernorm"),
        *("roc_bert", "roformer", "xlm", "xlm-roberta", "xlm-roberta-xl"),
    ]
)
_MOST = 100_000_000  # bytes of a file that is no weights
_WEIGHTS, _INDEX, _CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
_VOCABULARIES = (  # any of these is a tokenizer
    *("tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "spiece.model", "sentencepiece.bpe.model"),
    *("tokenizer.model", "bpe.codes"),
)
_TOKENIZER = (
    *_VOCABULARIES,
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", "entity_vocab.json"),
)
_ROOM_AT_THE_FRONT = ("camembert", "data2vec-text", "luke", "roberta", "roberta-prelayernorm", "xlm-roberta")


class EncoderError(ValueError):
    """A pretrained encoder that cannot be used: one line that says what it got, what it expected and what to do."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The files of an encoder on this machine, all of them there; `config` is its config.json."""

    name: str
    folder: Path
    config: dict[str, Any]
    files: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Hash (16 hexadecimal digits) of configuration, weights and tokenizer, wherever they lie."""
        digest = hashlib.sha256()
        for name in self.files:
            with (self.folder / name).open("rb") as file:
                digest.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    @property
    def num_layers(self) -> int | None:
        """How many layers it has; None where its configuration does not say."""
        found = self.config.get("num_hidden_layers", self.config.get("n_layers"))
        return found if isinstance(found, int) else None

    @property
    def most_tokens(self) -> int | None:
        """What its table of positions holds, special tokens included; None where positions are relative only."""
        positions = self.config.get("max_position_embeddings")
        if not isinstance(positions, int) or self.config.get("position_biased_input") is False:
            return None
        padding = self.config.get("pad_token_id", 1)
        at_the_front = self.config["model_type"] in _ROOM_AT_THE_FRONT
        room = padding + 1 if at_the_front and isinstance(padding, int) else 0
        return positions - room


def find(name: str) -> Found:
    """The encoder of this name, downloaded if it is not here and the hub may be asked. Raises EncoderError."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(name, folder)
    if _is_path(name):
        raise EncoderError(f"text encoder {name}: there is no such folder; expected one with config.json and weights")
    cached = _cached(name)
    if cached is not None and not _fault(name, cached):
        return _checked(name, cached)
    return _checked(name, _downloaded(name))


def absolute(name: str) -> str:
    """The same encoder from wherever it is asked for: a local folder by its whole path."""
    folder = Path(name).expanduser()
    return os.path.abspath(folder) if folder.is_dir() or _is_path(name) else name


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~"))


def _checked(name: str, folder: Path) -> Found:
    if fault := _fault(name, folder):
        raise EncoderError(f"text encoder {name}: {fault}")
    config = _json(folder / _CONFIG)
    kind = str(config.get("model_type"))
    if kind not in ENCODERS or config.get("is_encoder_decoder") or config.get("is_decoder"):
        what = "it has a decoder" if kind in ENCODERS else f"it is a {kind}, not an encoder of text alone"
        raise EncoderError(f"text encoder {name}: {what}; expected a model such as BERT, RoBERTa or DeBERTa")
    weights = _weights(folder)
    size = sum((folder / each).stat().st_size for each in weights)
    if (described := _least_weights(config)) > size:  # which an untrained model would be given, or none has room for
        raise EncoderError(
            f"text encoder {name}: its {_CONFIG} describes at least {described:,} weights, but their files have "
            f"{size:,} bytes; copy or download it again"
        )
    there = (_CONFIG, *weights, *(each for each in _TOKENIZER if (folder / each).is_file()))
    return Found(name=name, folder=folder, config=config, files=tuple(sorted(there)))


def _fault(name: str, folder: Path) -> str:
    """What is missing or wrong in a folder, and what to do; or nothing."""
    if not (folder / _CONFIG).is_file():
        return f"there is no {_CONFIG} in {folder}; expected the files that `hf download` puts into a folder"
    try:
        if not isinstance(_json(folder / _CONFIG), dict):
            raise ValueError("no JSON object")
        missing = [each for each in _weights(folder) if not (folder / each).is_file()]
        large = [each for each in _TOKENIZER if (folder / each).is_file() and (folder / each).stat().st_size > _MOST]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"a JSON file in {folder} cannot be read ({error}); copy or download it again"
    if large:
        return f"{large[0]} in {folder} is larger than {_MOST:,} bytes, so it is of no tokenizer; download it again"
    if missing:
        program = (
            f"from transformers import AutoModel as M, AutoTokenizer as T; n = {json.dumps(name, ensure_ascii=False)}; "
            'M.from_pretrained(n).save_pretrained("converted"); T.from_pretrained(n).save_pretrained("converted")'
        )
        return (
            f"there is no {', '.join(missing)} in {folder}; copy or download it again, or, where there is only a "
            "pickle (pytorch_model.bin), which is not opened here, convert it if you trust it: "
            f"{command('python', '-c', program)} and text_encoder.name=./converted"
        )
    if not any((folder / each).is_file() for each in _VOCABULARIES):
        return f"there is no tokenizer in {folder} (one of {', '.join(_VOCABULARIES)}); copy or download it again"
    return ""


def _weights(folder: Path) -> list[str]:
    """The files of its weights, whether they are there or not."""
    if (folder / _WEIGHTS).is_file() or not (folder / _INDEX).is_file():
        return [_WEIGHTS]
    files = sorted(set(_json(folder / _INDEX)["weight_map"].values()))
    if strange := [each for each in files if Path(each).name != each]:
        raise ValueError(f"{_INDEX} names {strange[0]!r}, which is no file beside it")
    return [_INDEX, *files]


def _json(path: Path) -> Any:
    """Raises OSError and ValueError."""
    with path.open("rb") as file:
        text = file.read(_MOST + 1)
    if len(text) > _MOST:
        raise ValueError(f"{path.name} is larger than {_MOST:,} bytes")
    return parsed(text)


def _least_weights(config: dict[str, Any]) -> int:
    """Fewer than any model of this configuration has: what its sizes come to, as far as they are known by name."""

    def size(*names: str) -> int:
        return next((config[name] for name in names if isinstance(config.get(name), int)), 0)

    width, layers = size("hidden_size", "dim", "emb_dim"), size("num_hidden_layers", "n_layers")
    shared = config.get("model_type") == "albert"  # whose layers are one
    return max(
        width * width * (1 if shared else layers),
        width * size("intermediate_size", "hidden_dim"),
        size("vocab_size") * size("embedding_size", "hidden_size", "dim", "emb_dim"),
        size("max_position_embeddings"),
        layers,
    )


def _cached(name: str) -> Path | None:
    """Its folder in the hub's cache of this machine."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, _CONFIG)
    except HFValidationError as error:
        raise EncoderError(
            f"text encoder {name}: no such folder, and no name of the hub; expected bert-base-uncased, "
            "microsoft/deberta-v3-base, ./my-encoder or the like"
        ) from error
    return Path(config).parent if isinstance(config, str) else None


def _downloaded(name: str) -> Path:
    """Its folder in the hub's cache, filled from the hub if that may be asked."""
    from huggingface_hub import constants, errors, snapshot_download

    wanted = [_CONFIG, _WEIGHTS, _INDEX, "model-*-of-*.safetensors", *_TOKENIZER]
    try:
        if constants.HF_HUB_OFFLINE:
            raise errors.OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (errors.RepositoryNotFoundError, errors.GatedRepoError) as error:
        raise EncoderError(
            f"text encoder {name}: the hub has none of this name that may be read from here; check the name, or log in "
            "with `hf auth login`"
        ) from error
    except (OSError, errors.HfHubHTTPError) as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"the hub cannot be reached ({_first(error)})"
        local = name.rpartition("/")[2]
        download = command("hf", "download", name, "--local-dir", local)
        raise EncoderError(
            f"text encoder {name}: it is not in this machine's cache ({constants.HF_HUB_CACHE}), and {why}; on a "
            f"machine with internet run `{download}`, copy that folder here and name it: "
            f"text_encoder.name=./{local}"
        ) from error


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
