"""Texts per second of a frozen encoder, against the loop of any tutorial: batches as texts come, padded to the longest.

On the raw texts of CMU-MOSI where `MSA_MOSI` names the file, else on those of the embedded corpus, with a BERT of 6
layers and width 384 of random weights and a vocabulary of these texts. All take turns in one process on the same
threads, so that they see the same machine; the time is the best of the rounds. Then what a second sweep does: the
features of all splits read from the cache and standardised.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from msa_models import data
from msa_models.data import Corpus
from msa_models.text.encode import encode
from msa_models.text.encoder import TextEncoder
from msa_models.text.find import Found, find
from msa_models.text.load import model_of, quiet, tokenizer_of
from orchestrator.run.inputs import with_features
from orchestrator.store import Files

ROUNDS = 3
BATCH_SIZES = (16, 32)  # of the peer
MAX_LENGTH = 64
ARCHITECTURE: dict[str, Any] = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}


def main() -> None:
    """Print texts per second of each, and the ratio to the fastest of the peer."""
    corpus = data.load(os.environ.get("MSA_MOSI", "synthetic"))
    texts = [str(text) for split in corpus.splits.values() for text in (split.texts if split.texts is not None else ())]
    with tempfile.TemporaryDirectory() as folder:
        found = _encoder(Path(folder) / "encoder", texts)
        encoder = TextEncoder(name=found.name, max_length=MAX_LENGTH)
        runs: dict[str, Callable[[], int]] = {
            f"as they come, {size} a batch": lambda size=size: _plain(found, texts, size) for size in BATCH_SIZES
        }
        runs["ours"] = lambda: sum(len(batch) for batch, _ in encode(found, encoder, texts, range(len(texts))))
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(ROUNDS):
            for name, run in runs.items():
                started = time.perf_counter()
                assert run() == len(texts)
                best[name] = min(best[name], time.perf_counter() - started)
        peer = min(taken for name, taken in best.items() if name != "ours")
        print(f"{len(texts)} texts of {corpus.name}, {torch.get_num_threads()} threads, best of {ROUNDS} rounds")
        for name, taken in best.items():
            print(f"{name:<24} {len(texts) / taken:7.0f} texts/s, {peer / taken:.2f} of the best peer")
        _cache(corpus, encoder, found, Path(folder))


def _plain(found: Found, texts: list[str], size: int) -> int:
    """The peer, which loads its model and its tokenizer as ours does."""
    model, tokenizer, done = model_of(found), tokenizer_of(found), 0
    with torch.inference_mode():
        for start in range(0, len(texts), size):
            batch = texts[start : start + size]
            inputs = tokenizer(batch, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
            done += len(model(**inputs).last_hidden_state.numpy())
    return done


def _cache(corpus: Corpus, encoder: TextEncoder, found: Found, folder: Path) -> None:
    """Seconds until the features of a corpus are ready, encoded or read."""
    for name in ("encoded and kept", "read from the cache"):
        started = time.perf_counter()
        with_features(corpus, encoder, found, Files.at(folder / "runs" / "mosi"))
        print(f"{name:<24} {time.perf_counter() - started:7.2f} s until all features are ready")
    size = sum(path.stat().st_size for path in (folder / "runs").rglob("*.arrow"))
    print(f"{'in the cache':<24} {size / 1e6:7.1f} MB")
    shutil.rmtree(folder / "runs")


def _encoder(folder: Path, texts: list[str]) -> Found:
    """A folder as the hub has it, with random weights."""
    from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
    from transformers import AutoModel, BertConfig, BertTokenizer

    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(iter(texts), vocab_size=8000, show_progress=False)
    torch.manual_seed(0)
    with quiet():
        BertTokenizer(vocab=trained.get_vocab(), model_max_length=512).save_pretrained(folder)
        config = BertConfig(vocab_size=trained.get_vocab_size(), **ARCHITECTURE)
        AutoModel.from_config(config).save_pretrained(folder)
    return find(str(folder))
