"""Corpora as NumPy arrays: `load("synthetic")` or `load(path)`."""

import dataclasses
import os
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast, get_args

from msa_models.data import containers, layouts
from msa_models.data.assemble import NonFinite, assemble
from msa_models.data.corpus import SPLITS, Corpus, CorpusError, Split, Task, did_you_mean, unknown
from msa_models.data.describe import warnings
from msa_models.data.mapped import NoRoom
from msa_models.data.raw import Reading, Request, Scale
from msa_models.data.splitting import HoldOut, hold_out
from msa_models.data.synthetic import Options, generate

__all__ = ["SPLITS", "SYNTHETIC", "Corpus", "CorpusError", "HoldOut", "Split", "Task", "load"]

SYNTHETIC = "synthetic"


def load(
    source: str | PathLike[str],
    *,
    task: str = "regression",
    target: str | None = None,
    nonfinite: str = "refuse",
    scale: str = "auto",
    valid: HoldOut | None = None,
    options: Mapping[str, Any] | None = None,
) -> Corpus:
    """The corpus of a file, or the synthetic one with `options`.

    task       "regression", "classification" or "multilabel" (several labels at once, such as MOSEI's emotions); it
               overrules a task among the options
    target     one emotion to tell from the rest, or "sentiment", in corpora with emotion labels
    nonfinite  "refuse" NaN and infinite features, or set them to "zero"
    scale      "mosi" or "sims" regression labels; "auto" takes what the file's layout says
    valid      the share of train that becomes the validation split of a file that has none
    Raises CorpusError, a ValueError, in one line that begins with the source.
    """
    name = fspath(source)
    try:
        for kind, value, known in (("task", task, Task), ("nonfinite", nonfinite, NonFinite), ("scale", scale, Scale)):
            if value not in get_args(known):
                raise CorpusError(unknown(kind, value, get_args(known)))
        request = Request(task=cast(Task, task), target=target, scale=cast(Scale, scale))
        if name == SYNTHETIC:
            if valid is not None:
                raise CorpusError("it has a valid split of its own; leave data.valid out")
            return _synthetic(request, options or {})
        if options:
            raise CorpusError(f"options ({', '.join(options)}) are for source '{SYNTHETIC}'; leave them out for a file")
        return _file(Path(name).expanduser(), request, cast(NonFinite, nonfinite), valid)
    except CorpusError as error:
        raise CorpusError(f"{name}: {error}") from error
    except NoRoom as error:
        raise CorpusError(f"{name}: {error.strerror}") from error
    except OSError as error:
        raise CorpusError(f"{name}: it cannot be opened: {error.strerror or error}") from error
    except MemoryError as error:
        raise CorpusError(f"{name}: it needs more memory than there is ({error or 'MemoryError'})") from error


def _synthetic(request: Request, options: Mapping[str, Any]) -> Corpus:
    known = [field.name for field in dataclasses.fields(Options)]
    if faults := [unknown("option", name, known) for name in options if name not in known]:
        raise CorpusError("; ".join(faults))
    if request.target is not None:
        raise CorpusError(f"target: {request.target} is for corpora with emotion labels; leave it out")
    corpus = generate(Options(**{**options, "task": request.task}), request.scale)
    if options.get("task", request.task) != request.task:
        overruled = f"options.task: {options['task']} is overruled by task: {request.task}"
        corpus = dataclasses.replace(corpus, warnings=(*corpus.warnings, overruled))
    return corpus


def _file(path: Path, request: Request, nonfinite: NonFinite, valid: HoldOut | None) -> Corpus:
    if not os.path.lexists(path):
        nearby = os.listdir(path.parent) if path.parent.is_dir() else []
        hint = did_you_mean(path.name, [SYNTHETIC, *nearby])
        raise CorpusError(f"there is no such file, and the only named source is '{SYNTHETIC}'{hint}")
    corpus = assemble(path.stem, _reading(path, request, valid), nonfinite)
    return dataclasses.replace(corpus, warnings=(*corpus.warnings, *warnings(corpus)))


def _reading(path: Path, request: Request, valid: HoldOut | None) -> Reading:
    reading = layouts.read(containers.read(path, without_valid=valid is not None), request)
    if reading.task != request.task:
        raise CorpusError(f"task: {request.task} is not for these labels; use task: {reading.task}")
    return reading if valid is None else hold_out(reading, valid)
