"""The part of an experiment that says what a trial occupies, for how long, and what is done when something goes wrong.

Nothing of it changes a result, so nothing of it is part of what a study is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt
from pydantic import AfterValidator, Field

from search_spaces import durations
from search_spaces.expectation import Expects
from search_spaces.faults import show
from search_spaces.parts import Finite, Part

FIRST_WORD_S = 300.0  # that a worker of a busy machine may need to start and to come to the end of an epoch


def _span_of_time(text: str) -> str:
    durations.seconds(text)
    return text


def _longer_than_a_start(text: str) -> str:
    if durations.seconds(text) < FIRST_WORD_S:
        least = durations.words(FIRST_WORD_S)
        raise ValueError(
            f"got {show(text)}, expected at least {least}, as a worker says nothing while it starts and trains an "
            "epoch; take more than the longest epoch, or null"
        )
    return text


Span = Annotated[
    str,
    AfterValidator(_span_of_time),
    Expects(f"a time such as {durations.FORMATS}"),
]


class Resources(Part):
    """What one trial occupies, how many run at once, and for how long."""

    expects = "a mapping such as {cpu: 1, gpu: 0, max_concurrent: null}"

    cpu: Annotated[Finite, Gt(0)] = Field(default=1.0, description="CPU slots per trial.")
    gpu: Annotated[Finite, Ge(0)] = Field(default=0.0, description="GPUs per trial; 0.5 shares one.")
    max_concurrent: Annotated[int, Ge(1)] | None = Field(
        default=None, description="Trials at a time; null: as many as the cluster holds."
    )
    retries: Annotated[int, Ge(0)] = Field(
        default=2, description="How often a trial starts anew whose worker or node was lost, or that may grow."
    )
    on_oom: Literal["fail", "grow"] = Field(
        default="fail", description="A trial out of memory fails, or is retried with twice the CPU slots and GPUs."
    )
    trial_time: Span | None = Field(
        default=None,
        description="Time that a trial may train, over all attempts, such as 2h or 1:30:00; null: as long as it takes. "
        "It is looked at after each epoch; a retry of what failed so has it once more.",
    )
    on_timeout: Literal["fail", "keep_best"] = Field(
        default="fail",
        description="A trial whose time is over fails, or is complete at its best epoch so far, with a warning.",
    )
    silent_after: Annotated[Span, AfterValidator(_longer_than_a_start)] | None = Field(
        default=None,
        description="Time without a word from a worker, such as 6h, after which it is given up and its trial starts "
        "anew, as after any lost worker; at least 5m, and longer than the longest epoch; null: never, as an epoch of a "
        "large corpus on CPUs may take hours.",
    )
