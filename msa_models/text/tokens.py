"""Texts as token ids: N texts, T tokens of the longest, special ones included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msa_models.text.find import Found
from msa_models.text.load import quiet, tokenizer_of


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


def tokenise(found: Found, texts: Sequence[str], max_length: int) -> Tokens:
    """Token ids by the tokenizer of an encoder, which is asked for no more of them than `Found.most_tokens`."""
    assert found.most_tokens is None or max_length <= found.most_tokens, "the plan refuses more"
    tokenizer = tokenizer_of(found)
    padding = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    with quiet():
        ids = tokenizer(
            list(texts),
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
    return Tokens(ids=[each or [padding] for each in ids], padding=padding)
