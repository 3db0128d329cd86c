"""What the options of a command change of an experiment: each is a `--set`, said shorter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from msa_models.printable import printable
from orchestrator.cli.base import msa, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search_spaces.faults import Places
    from search_spaces.overrides import Option
    from search_spaces.schema import Experiment

_NOT_OF_THE_EXPERIMENT = ("storage", "address", "allow_changed", "dry_run", "ablation", "time_limit", "gpus")
_SHORT_FOR = {
    "trials": "search.trials",
    "epochs": "config.training.epochs",
    "seed": "search.seed",
    "max_concurrent": "resources.max_concurrent",
    "tuning": "ablation.tuning",
    "seeds": "ablation.seeds",
}


def handed_over(name: str, arguments: Sequence[str], commands: Sequence[str]) -> dict[str, Any]:
    """The options of a command that runs elsewhere, as it will see them there: a typo is found here."""
    if strange := next((word for word in arguments if word != printable(word)), None):
        raise click.UsageError(f"got the argument {strange!r}, expected no control characters in what goes elsewhere")
    context = click.get_current_context()
    command = msa.get_command(context, name) if name in commands else None
    if command is None:
        raise click.UsageError(f"got {name} as the command of a job, expected one of: {', '.join(commands)}")
    return command.make_context(name, list(arguments), parent=context.parent).params


def asked_for(experiment: str, **options: Any) -> Experiment:
    """The experiment as the options of a command change it, which is all that can be known without its data."""
    of_it = {name: value for name, value in options.items() if name not in _NOT_OF_THE_EXPERIMENT}
    changes, chosen = changes_of(**of_it)
    return changed(experiment, changes, **chosen)[0]


def changes_of(
    data: str | None,
    overrides: tuple[str, ...],
    studies: tuple[str, ...] = (),
    designs: str | None = None,
    components: str | None = None,
    **short: Any,
) -> tuple[list[Option], dict[str, Any]]:
    """What the options change, and which studies and designs they choose."""
    import json

    from search_spaces.overrides import Option

    changes = [
        Option(f"{_SHORT_FOR[name]}={value}", f"--{name.replace('_', '-')}")
        for name, value in short.items()
        if value is not None
    ]
    if data is not None:
        changes += [Option(f"data.source={json.dumps(data)}", "--data"), Option("data.options={}", "--data")]
    if components is not None:
        changes.append(Option(f"ablation.leave_one_out={json.dumps(words(components))}", "--components"))
        if designs is not None and "leave_one_out" not in words(designs):
            raise click.UsageError("--components says what leave_one_out leaves out; add it to --designs")
    return [*changes, *map(Option, overrides)], {"studies": studies, "designs": designs}


def changed(
    experiment: str, changes: Sequence[Option], studies: tuple[str, ...], designs: str | None
) -> tuple[Experiment, Places]:
    """The experiment with these changes, of which only the chosen studies and designs stay, and its places."""
    from search_spaces.ablation import only
    from search_spaces.changes import selected
    from search_spaces.loading import load

    loaded = load(experiment, changes)
    asked = selected(loaded.experiment, words(*studies)) if studies else loaded.experiment
    if designs is not None:
        asked = asked.model_copy(update={"ablation": only(asked.ablation, words(designs))})
    return asked, loaded.places
