"""The cases of a contract suite: small corpora in every layout, and few combinations that cover many dimensions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations as chosen
from itertools import product
from typing import Any, ClassVar, TypeVar, get_args

import numpy as np

from msa_models import data
from msa_models.data.corpus import Corpus, Split, Task

UTTERANCES = {  # layout -> modalities that come as utterance vectors
    "sequences": (),
    "utterances": ("text", "audio", "vision"),
    "text without time": ("text",),
    "only text in time": ("audio", "vision"),
}
LAYOUTS, TASKS = tuple(UTTERANCES), get_args(Task)
OPTIONS = {"num_train": 24, "num_valid": 12, "num_test": 8, "steps": 4}
WIDTHS = {"text_width": 6, "audio_width": 4, "vision_width": 5}

Test = TypeVar("Test", bound=Callable[..., None])


@cache
def small_corpus(task: str, layout: str) -> Corpus:
    """A standardised corpus of 24, 12 and 8 samples: `small_corpus("classification", "text without time")`."""
    corpus = data.load("synthetic", task=task, options=OPTIONS | WIDTHS)
    splits = {name: _without_time(split, UTTERANCES[layout]) for name, split in corpus.splits.items()}
    return replace(corpus, splits=splits).standardised()


def _without_time(split: Split, modalities: tuple[str, ...]) -> Split:
    means = {
        name: np.stack(
            [values[mask].mean(0) for values, mask in zip(split.inputs[name], split.masks[name], strict=True)]
        )
        for name in modalities
    }
    masks = {name: mask for name, mask in split.masks.items() if name not in modalities}
    return replace(split, inputs=split.inputs | means, masks=masks)


def combinations(dimensions: Mapping[str, Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Cases, one value of each dimension, in which every pair of values of two dimensions occurs.

    About as many as the two largest dimensions multiplied. Greedy: a case begins with a pair that is still missing, and
    each further value is the one that brings most missing pairs.
    """
    sizes = [len(values) for values in dimensions.values()]
    if _everything() or len(sizes) < 3 or 0 in sizes:
        return list(product(*dimensions.values()))
    axes = range(len(sizes))
    missing = {
        ((one, i), (other, j)): None
        for one, other in chosen(axes, 2)
        for i in range(sizes[one])
        for j in range(sizes[other])
    }
    cases = []
    while missing:
        case = dict(next(iter(missing)))
        for axis in (axis for axis in axes if axis not in case):
            gains = [sum(_pair(each, (axis, i)) in missing for each in case.items()) for i in range(sizes[axis])]
            start = len(cases) % sizes[axis]  # so that equal gains do not always give the first value
            case[axis] = max(range(sizes[axis]), key=lambda i: (gains[i], -((i - start) % sizes[axis])))
        for pair in chosen(sorted(case.items()), 2):
            missing.pop(pair, None)
        cases.append(tuple(values[case[axis]] for axis, values in enumerate(dimensions.values())))
    return cases


def _pair(one: tuple[int, int], other: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    return (one, other) if one < other else (other, one)


def each_once(dimensions: Mapping[str, Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Cases in which every value of the first dimension occurs, and every combination of the others.

    For what does not depend on how the first dimension meets the others.
    """
    if _everything():
        return list(product(*dimensions.values()))
    first, *others = dimensions.values()
    rest = list(product(*others))
    return [(first[i % len(first)], *rest[i % len(rest)]) for i in range(max(len(first), len(rest)))] if first else []


def over(*, once: bool = False, **dimensions: Sequence[Any]) -> Callable[[Test], Test]:
    """The dimensions that a test of a contract runs over beside its subject, in pairs, or each subject `once`."""

    def marked(test: Test) -> Test:
        vars(test)["dimensions"] = (dimensions, once)
        return test

    return marked


class Contract:
    """A suite over some subjects; pytest asks it which cases each of its tests has."""

    subject: ClassVar[str] = "subject"  # the argument of a test that is the subject
    subjects: ClassVar[Sequence[Any]] = ()

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Give a test its cases."""
        if self.subject not in metafunc.fixturenames:
            return
        cases = self.cases(metafunc.function)
        names = (self.subject, *getattr(metafunc.function, "dimensions", ({},))[0])
        ids = ["-".join(_id(value) for value in case.values()) for case in cases]
        metafunc.parametrize(names, [tuple(case.values()) for case in cases], ids=ids)

    def cases(self, test: Callable[..., None]) -> list[dict[str, Any]]:
        """What a test is called with, once for each of them: its subject, and a value of each of its dimensions."""
        dimensions, once = getattr(test, "dimensions", ({}, False))
        dimensions = {self.subject: self.chosen(test), **dimensions}
        return [dict(zip(dimensions, case, strict=True)) for case in (each_once if once else combinations)(dimensions)]

    def chosen(self, test: Callable[..., None]) -> Sequence[Any]:
        """The subjects that a test is for; all of them unless overridden."""
        return self.subjects


def _id(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_id, value))
    return value if isinstance(value, str) else getattr(value, "name", str(value))


def _everything() -> bool:
    return bool(os.environ.get("MSA_EVERY_COMBINATION"))
