"""A tiny BERT and a tiny DeBERTa-v3 of random weights: as folders with the hub's files, or in memory with token ids.

Imports of transformers are inside the functions, so that collecting tests is quick.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from msa_models.data.corpus import Corpus, Split
from msa_models.text.encoder import Pretrained

WIDTH, LAYERS = 32, 2

TEXTS = (
    "I really loved this film from the first minute to the last",
    "the plot was thin and the jokes were worse",
    "a wonderful cast, and they all seem to enjoy themselves",
    "honestly, I fell asleep",
    "it is not good, it is not bad, it is simply there",
    "you should see it with your family",
    "what a terrible waste of an evening!",
    "the music was beautiful, the pictures even more so",
    "I would not watch it again, even for free",
    "um, well, I don't know what to say about the ending",
    "nobody in this room was laughing",
    "the best acting that I have seen this year",
    "too long, too loud and far too expensive",
    "she plays the mother with great warmth",
    "they should have stopped after the first part",
    "great",
)

_BERT: dict[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "initializer_range": 0.2,  # ten times that of the real ones, so that the few layers of a tiny one matter
    "intermediate_size": 2 * WIDTH,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 128,
    "model_type": "bert",
    "num_attention_heads": 2,
    "num_hidden_layers": LAYERS,
    "pad_token_id": 0,
    "type_vocab_size": 2,
}

_DEBERTA: dict[str, Any] = {
    "model_type": "deberta-v2",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "initializer_range": 0.2,
    "intermediate_size": 2 * WIDTH,
    "layer_norm_eps": 1e-7,
    "max_position_embeddings": 128,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "num_attention_heads": 2,
    "num_hidden_layers": LAYERS,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "position_buckets": 32,
    "relative_attention": True,
    "share_att_key": True,
    "type_vocab_size": 0,
}


def bert(folder: Path, seed: int = 0) -> Path:
    """As bert-base-uncased: its weights have the names of the masked language model, norms those of TensorFlow."""
    from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
    from transformers import BertTokenizer

    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(iter(TEXTS), vocab_size=300, min_frequency=1, show_progress=False)
    pieces = trained.get_vocab()
    folder.mkdir(parents=True, exist_ok=True)
    BertTokenizer(vocab=pieces, model_max_length=128).save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in sorted(pieces, key=pieces.__getitem__)))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "model_max_length": 128}))
    config = _BERT | {"vocab_size": len(pieces)}
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = {}
    for name, tensor in random_model(config, seed).state_dict().items():
        for new in old:
            name = name.replace(new, old[new])
        weights[f"bert.{name}"] = tensor
    return _saved(folder, config, weights)


def deberta(folder: Path, seed: int = 0) -> Path:
    """As microsoft/deberta-v3-base: a SentencePiece model, no tokenizer.json; but with safetensors."""
    import sentencepiece

    special = {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]"}
    pieces: dict[str, Any] = {f"{name}_piece": piece for name, piece in special.items()}
    pieces |= {f"{name}_id": number for number, name in enumerate(special)}
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=200,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        **pieces,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spm.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    config = _DEBERTA | {"vocab_size": 256}  # more than there are pieces, as the real one has
    return _saved(folder, config, random_model(config, seed).state_dict())


BUILDERS = {"bert": bert, "deberta": deberta}
_VOCABULARY = 60
CONFIGS = {"bert": _BERT | {"vocab_size": _VOCABULARY}, "deberta": _DEBERTA | {"vocab_size": _VOCABULARY}}


def pretrained(kind: str = "bert", seed: int = 0, **changes: Any) -> Pretrained:
    """A tiny encoder in memory, its arrays as read-only as those from shared memory; `changes` of its config."""
    config = CONFIGS[kind] | changes
    weights = {name: tensor.numpy() for name, tensor in random_model(config, seed).state_dict().items()}
    for array in weights.values():
        array.setflags(write=False)
    return Pretrained(
        name=f"tiny-{kind}", fingerprint=f"{seed:016x}", config=config, weights=weights, width=config["hidden_size"]
    )


def with_tokens(corpus: Corpus, encoder: Pretrained, seed: int = 0) -> Corpus:
    """The corpus with texts of 1 to 9 random words instead of its text features, as token ids to fine-tune on.

    The words tell the label: the larger it is, the more of them come from the upper half of the vocabulary.
    """
    random = np.random.default_rng(seed)
    splits = {name: _with_tokens(split, random) for name, split in corpus.splits.items()}
    return replace(corpus, splits=splits, pretrained=encoder)


def _with_tokens(split: Split, random: np.random.Generator) -> Split:
    begin, end, first, half = 2, 3, 4, (_VOCABULARY - 4) // 2
    ids = np.zeros((len(split), 11), np.int64)
    mask = np.zeros(ids.shape, bool)
    targets = split.targets.mean(axis=1) if split.targets.ndim == 2 else split.targets
    for row, target in enumerate(targets.tolist()):
        count = int(random.integers(1, 10))
        share = 0.5 + 0.5 * np.tanh(target) if split.targets.dtype.kind == "f" else target / 2.0  # of three classes
        positive = random.random(count) < share
        words = first + random.integers(0, half, count) + half * positive.astype(np.int64)
        ids[row, : count + 2] = [begin, *words, end]
        mask[row, : count + 2] = True
    return replace(split, inputs=split.inputs | {"text": ids}, masks=split.masks | {"text": mask})


def random_model(config: dict[str, Any], seed: int) -> Any:
    """A model as transformers itself would begin with it, but with biases that are not all 0."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModel

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = AutoModel.from_config(CONFIG_MAPPING[config["model_type"]].from_dict(dict(config)))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    return model


def _saved(folder: Path, config: dict[str, Any], weights: dict[str, Any]) -> Path:
    from safetensors.torch import save_file

    (folder / "config.json").write_text(json.dumps(config, indent=2))
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(contiguous, folder / "model.safetensors", {"format": "pt"})
    return folder
