"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `sweep`, `ablate` and `describe` have in common; each option is short for a `--set`."""
    for option in (
        click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a value; repeatable."),
        click.option("--max-concurrent", type=click.IntRange(min=1), help="Trials at a time [default: what fits]."),
        click.option("--seed", type=click.IntRange(min=0), help="Seed of the search."),
        click.option("--epochs", type=click.IntRange(min=1), help="Epochs of each trial."),
        click.option("--trials", type=click.IntRange(min=1), help="Trials of each search."),
        click.option("--data", metavar="PATH", help="A corpus file (.pkl, .npz), or `synthetic`."),
        click.argument("experiment"),
    ):
        command = option(command)
    return command


def ablation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `ablate` and `describe --ablation` have in common; each is short for a `--set ablation.…`."""
    for option in (
        click.option("--seeds", metavar="N", help="Paired seeds, or a race: '{min: 5, max: 20, until: 0.02}'."),
        click.option("--tuning", metavar="HOW", help="per_variant, shared or none."),
        click.option("--components", metavar="NAME,…", help="Leave out these, one at a time [default: all]."),
        click.option("--designs", metavar="NAME,…", help="Only these: leave_one_out, additive, factorial, swap, …"),
    ):
        command = option(command)
    return command


STUDIES = click.option("--studies", multiple=True, metavar="NAME,…", help="Only these of the experiment's studies.")
STORAGE = click.option("--storage", metavar="URI", help="A folder, or s3://bucket/prefix [default: runs/EXPERIMENT].")
ADDRESS = click.option(
    "--address",
    help="The Ray cluster this machine is part of: auto, or its head's host:port [default: start Ray here].",
)
ALLOW_CHANGED = click.option("--allow-changed", is_flag=True, help="Go on although code, data or versions changed.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Check everything, show the plan, write nothing.")
