"""What trials with a text encoder read: token ids, or features from the cache; missing ones are encoded first.

Only the driver does this, with what encodes texts (`encoding.py`) handed in. Workers get the finished corpora, and the
weights to fine-tune, from Ray's object store: they need neither the hub, nor an encoder's files, nor the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from msa_models.data import SPLITS, Corpus, mapped
from msa_models.data.moments import moments
from msa_models.text.encoder import Pretrained, TextEncoder
from msa_models.text.find import EncoderError, Found, find
from orchestrator.plan.corpora import TEXT, EncoderInfo, text_encoders
from orchestrator.plan.studies import Study
from orchestrator.run.encoding import Encode, encoded, hash_of, here
from orchestrator.run.messages import inputs_key
from orchestrator.run.output import Listener, Silent
from orchestrator.store import Files

Said = Sequence[str | tuple[int, ...]]  # texts, or their token ids


@dataclass
class Encoders:
    """Pretrained encoders by name, each looked for once, whether it is found or not."""

    _found: dict[str, Found | EncoderError] = field(default_factory=dict)

    def __call__(self, name: str) -> Found:
        """The files of an encoder. Raises EncoderError."""
        if name not in self._found:
            try:
                self._found[name] = find(name)
            except EncoderError as error:
                self._found[name] = error
        found = self._found[name]
        if isinstance(found, EncoderError):
            raise found
        return found

    def info(self, name: str, said: Said = ()) -> EncoderInfo:
        """What planning needs to know of it. Raises EncoderError, also where what was `said` are no ids of its."""
        found = self(name)
        if said and not isinstance(said[0], str):
            from msa_models.text.load import check  # imports transformers

            check(found, [each for each in said if not isinstance(each, str)])
        return EncoderInfo(fingerprint=found.fingerprint, most_tokens=found.most_tokens, num_layers=found.num_layers)


def inputs(
    studies: Sequence[Study],
    corpora: Mapping[str, Corpus],
    encoders: Encoders,
    storage: Files,
    listener: Listener | None = None,
    encode: Encode | None = here,
) -> dict[str, Corpus]:
    """What the trials of these studies read, by `inputs_key`; `corpora` are standardised, by the name of the dataset.

    `listener` hears of texts that are encoded, by `encode`. Raises StorageError where the cache, beside the storage,
    cannot be used, EncoderError for files that cannot, and Unencoded where nobody encodes texts that are missing.
    """
    made: dict[tuple[str, tuple[str | int, ...]], Corpus] = {}
    weights: dict[str, Pretrained] = {}
    found: dict[str, Corpus] = {}
    for study in studies:
        corpus = corpora[study.dataset]
        readings = text_encoders(study.fixed, study.distributions)
        if not readings:
            found[study.data_fingerprint] = corpus
        for encoder in readings:
            what = (study.dataset, encoder.reads)
            if what not in made:
                files = encoders(encoder.name)
                if encoder.finetuned and encoder.name not in weights:
                    weights[encoder.name] = _weights(files)
                made[what] = (
                    with_tokens(corpus, encoder, files, weights[encoder.name])
                    if encoder.finetuned
                    else with_features(corpus, encoder, files, storage, listener, encode)
                )
            found[inputs_key(study.data_fingerprint, {"text_encoder": asdict(encoder)})] = made[what]
    return found


def with_tokens(corpus: Corpus, encoder: TextEncoder, files: Found, weights: Pretrained) -> Corpus:
    """A corpus whose text is token ids (N, T) for the encoder to fine-tune; T is the longest text's of all splits."""
    from msa_models.text.load import tokenise  # imports transformers, as what follows it does

    tokens = tokenise(files, corpus.said, encoder.max_length)
    ids, mask = tokens.padded(range(len(tokens.ids)))
    rows = _rows(corpus)
    inputs, masks = ({split: array[at] for split, at in rows.items()} for array in (ids, mask))
    return _with_text(corpus, inputs, masks, weights)


def with_features(
    corpus: Corpus,
    encoder: TextEncoder,
    files: Found,
    storage: Files,
    listener: Listener | None = None,
    encode: Encode | None = here,
) -> Corpus:
    """A corpus whose text is what the frozen encoder makes of it, standardised: (N, T, d), or (N, d) where pooled."""
    said = corpus.said
    hashes = [hash_of(each) for each in said]
    texts = dict(zip(hashes, said, strict=True))  # each once
    kept = encoded(encoder, files, texts, storage, encode, listener or Silent())
    features = [kept[each] for each in hashes]
    longest, width = max(len(each) for each in features), features[0].shape[-1]
    inputs, masks = {}, {}
    for split, at in _rows(corpus).items():
        if features[0].ndim == 1:
            inputs[split] = np.stack(features[at])
            continue
        lengths = np.array([len(each) for each in features[at]])
        masks[split] = np.arange(longest) < lengths[:, None]
        try:
            inputs[split] = mapped.empty((len(lengths), longest, width))
        except mapped.NoRoom as error:
            raise EncoderError(f"text encoder {encoder.name}: {error.strerror}") from error
        for out, each in zip(inputs[split], features[at], strict=True):
            out[: len(each)], out[len(each) :] = each, 0.0
        mapped.forget(inputs[split])
    scale = moments(inputs["train"], masks.get("train"))
    if not np.isfinite(scale.mean).all():
        raise EncoderError(f"text encoder {encoder.name}: its features are not finite in {encoder.dtype}")
    for split, values in inputs.items():
        scale.standardise(values, masks.get(split), values)  # in place: these are the largest arrays there are
    return _with_text(corpus, inputs, masks)


def _weights(files: Found) -> Pretrained:
    from msa_models.text.load import load  # imports torch and transformers

    return load(files)


def _rows(corpus: Corpus) -> dict[str, slice]:
    """Where each split lies in them."""
    ends = np.cumsum([0, *(len(corpus.splits[split]) for split in SPLITS)]).tolist()
    return {split: slice(start, end) for split, start, end in zip(SPLITS, ends, ends[1:], strict=False)}


def _with_text(
    corpus: Corpus,
    inputs: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    weights: Pretrained | None = None,
) -> Corpus:
    """The corpus with these inputs and masks of its text, by split; what was said stays with the driver."""
    splits = {}
    for name, split in corpus.splits.items():
        others = {modality: mask for modality, mask in split.masks.items() if modality != TEXT}
        own = {TEXT: masks[name]} if name in masks else {}
        splits[name] = replace(
            split, inputs={**split.inputs, TEXT: inputs[name]}, masks={**others, **own}, texts=None, tokens=None
        )
    return replace(corpus, splits=splits, pretrained=weights)
