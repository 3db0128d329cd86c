"""Corpora as NumPy arrays: `load` one, from a file or synthetic."""

from msa_models.data.corpus import SPLITS, Corpus, CorpusError, Split, Task
from msa_models.data.loading import SYNTHETIC, load

__all__ = ["SPLITS", "SYNTHETIC", "Corpus", "CorpusError", "Split", "Task", "load"]
