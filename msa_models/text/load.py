"""An encoder's weights and tokenizer read by `transformers`, which says nothing and downloads nothing meanwhile.

N texts, T tokens of the longest, special ones included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from msa_models.text.encoder import Pretrained
from msa_models.text.find import EncoderError, Found


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The ids of each text, cut to the length that was asked for, and the id that stands for no token."""

    ids: list[list[int]]
    padding: int

    def padded(self, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Of these texts: ids (N, T) int64 with the padding at the end, and a mask (N, T) bool of real tokens."""
        lengths = np.array([len(self.ids[index]) for index in chosen])
        mask = np.arange(lengths.max(initial=1)) < lengths[:, None]
        ids = np.full(mask.shape, self.padding, np.int64)
        ids[mask] = np.concatenate([self.ids[index] for index in chosen])
        return ids, mask


def tokenise(found: Found, texts: Sequence[str | Sequence[int]], max_length: int) -> Tokens:
    """Token ids by the tokenizer of an encoder, which is asked for no more of them than `Found.most_tokens`.

    Texts that are token ids already are cut to the same length, their last one kept. Raises EncoderError for ids that
    are none of this encoder's.
    """
    assert found.most_tokens is None or max_length <= found.most_tokens, "the plan refuses more"
    tokenizer = tokenizer_of(found)
    padding = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    written = [each for each in texts if isinstance(each, str)]
    if len(written) < len(texts):
        given = [list(each) for each in texts if not isinstance(each, str)]
        _check(found, tokenizer, given)
        ids = [each if len(each) <= max_length else [*each[: max_length - 1], each[-1]] for each in given]
        return Tokens(ids=[each or [padding] for each in ids], padding=padding)
    with quiet():
        ids = tokenizer(
            written,
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
    return Tokens(ids=[each or [padding] for each in ids], padding=padding)


def check(found: Found, given: Sequence[Sequence[int]]) -> None:
    """Raises EncoderError for token ids that this encoder's tokenizer could not have made."""
    _check(found, tokenizer_of(found), given)


def _check(found: Found, tokenizer: Any, given: Sequence[Sequence[int]]) -> None:
    size, largest = (
        found.config.get("vocab_size", len(tokenizer)),
        max((max(each) for each in given if each), default=0),
    )
    fault = ""
    if largest >= size:
        fault = f"the corpus' token ids (text_bert) go up to {largest}, its vocabulary up to {size - 1}"
    first, last = (_named(tokenizer, names) for names in (("cls_token", "bos_token"), ("sep_token", "eos_token")))
    if first and last and not fault:
        wrong = sum(each[0] != first[1] or each[-1] != last[1] for each in given if each)
        ends = f"begin with its {first[0]} ({first[1]}) and end with its {last[0]} ({last[1]})"
        fault = f"the token ids (text_bert) of {wrong} of {len(given)} samples do not {ends}" if wrong else ""
    if fault:
        raise EncoderError(
            f"text encoder {found.name}: {fault}, so they are of another one; name that, or use a corpus with raw texts"
        )


def _named(tokenizer: Any, names: Sequence[str]) -> tuple[str, int] | None:
    """The first of these special tokens that a tokenizer has, with its id."""
    found = ((getattr(tokenizer, name), getattr(tokenizer, f"{name}_id")) for name in names)
    return next(((str(token), int(number)) for token, number in found if token is not None), None)


def load(found: Found) -> Pretrained:
    """The weights as plain arrays of float32. Raises EncoderError where some are missing or fit no model.

    Where the model has a pooler and its file of weights has none, the pooler's weights are 0: nothing here reads them,
    and they must not be random.
    """
    model, missing = _model(found)
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    for name in missing:
        weights[name][...] = 0.0
    return Pretrained(
        name=found.name,
        fingerprint=found.fingerprint,
        config=found.config,
        weights=weights,
        width=model.config.hidden_size,
        empty_text=tuple(tokenise(found, [""], max_length=4).ids[0]),
    )


def model_of(found: Found) -> Any:
    """The model itself, in float32 and ready to evaluate. Raises EncoderError."""
    return _model(found)[0]


def tokenizer_of(found: Found) -> Any:
    """Its tokenizer. Raises EncoderError, such as for a package that it needs."""
    with quiet():
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # whatever is in the files
            raise EncoderError(
                f"text encoder {found.name}: its tokenizer in {found.folder} cannot be read ({_line(error)})"
            ) from error


def _model(found: Found) -> tuple[Any, list[str]]:
    """The model, and the names of the weights that are missing and that nothing here needs."""
    with quiet():
        import torch
        from transformers import AutoModel

        try:
            model, told = AutoModel.from_pretrained(
                found.folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:  # whatever is in the files
            raise EncoderError(
                f"text encoder {found.name}: its weights in {found.folder} cannot be read ({_line(error)})"
            ) from error
    missing = sorted(told["missing_keys"])
    if needed := [name for name in missing if not name.startswith("pooler.")]:
        raise EncoderError(
            f"text encoder {found.name}: {len(needed)} of its weights are missing in {found.folder}, such as "
            f"{needed[0]}; expected those of a pretrained model"
        )
    return model.eval(), missing


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars, reports and advice of `transformers`."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _line(error: Exception) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split())[:300]
