"""The conditions in which the models of a study are evaluated, or what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.plan.corpora import SECTION, TEXT, CorpusInfo
from orchestrator.plan.space import SearchSpace
from search_spaces.faults import ExperimentError, Fault, did_you_mean, listed, show
from search_spaces.parts import Robustness

WHERE = "confirm.robustness"


def robustness(
    asked: Robustness | None, space: SearchSpace, corpus: CorpusInfo, modalities: Sequence[str] | None
) -> dict[str, Any] | None:
    """The conditions as plain data that travels to a worker; None where there are none.

    Raises ExperimentError for a modality that the corpus does not have, and for noise on a text that is fine-tuned:
    token ids are no features that noise could be added to. That such a text is missing, from all samples or from a
    share of them, means an empty text.
    """
    if asked is None:
        return None
    usable = corpus.usable(encoded=True)
    unknown = [
        Fault(
            path=f"{WHERE}.modalities.{index}",
            message=f"got {show(name)}, but {corpus.name} has {listed(usable)}{did_you_mean(name, usable)}",
        )
        for index, name in enumerate(asked.modalities or ())
        if name not in usable
    ]
    if unknown:
        raise ExperimentError(unknown)
    disturbed = [name for name in modalities or () if asked.modalities is None or name in asked.modalities]
    encoder, searched = space.config.get(SECTION), space.distributions.get(f"{SECTION}.mode")
    modes = getattr(searched, "choices", None) or ([encoder["mode"]] if encoder else [])
    if asked.noise and TEXT in disturbed and "finetune" in modes:
        others = [name for name in modalities or () if name != TEXT]
        instead = f", or disturb the others alone ({WHERE}.modalities=[{','.join(others)}])" if others else ""
        message = (
            f"got {show(asked.noise)}, but {SECTION}.mode is finetune, and token ids are no features that noise could "
            f"be added to; do without (noise: []){instead}"
        )
        raise ExperimentError([Fault(path=f"{WHERE}.noise", message=message)])
    return asked.model_dump(mode="json")
