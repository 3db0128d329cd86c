"""The MulT and MultiBench layout: text, audio, vision, labels, optional id.

What is read of a split of N samples, by yaohungt/Multimodal-Transformer (`src/dataset.py`, Tsai et al. 2019,
arXiv:1906.00295) and pliang279/MultiBench (`datasets/affect/get_data.py`, Liang et al. 2021, arXiv:2107.07502):

text, audio, vision   (N, T, d) sequences, padded at the start, or N arrays (T_i, d); any may be missing
labels                sentiment, classes or emotions, told apart as `msa_models/data/labels.py` says: (N, 1, 1) for MOSI
                      and MOSEI, 0 or 1 (N, 1) for UR-FUNNY, -1 or 1 for MUStARD, (N, 4, 2) for IEMOCAP, and (N, 6) or
                      (N, 7) where the labels of CMU-MOSEI were taken whole
id                    (N,) `video[clip]`, or (N, 3) of a name and the bounds of its segment
raw_text, *_lengths   (N,) what was said, and numbers of real steps, which converted files have
"""

from msa_models.data.containers import RawCorpus
from msa_models.data.corpus import CorpusError
from msa_models.data.labels import understand
from msa_models.data.raw import Reading, Request, samples


def matches(raw: RawCorpus) -> bool:
    """By its single label key."""
    return "labels" in raw["train"]


def read(raw: RawCorpus, request: Request) -> Reading:
    """Whatever the labels are that the task asks for."""
    if missing := [split for split, content in raw.items() if content.get("labels") is None]:
        raise CorpusError(f"'labels' is missing in {', '.join(missing)}")
    found = understand({split: content["labels"] for split, content in raw.items()}, request)
    return found.reading({split: samples(content, found.targets[split], split) for split, content in raw.items()})
