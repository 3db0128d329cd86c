"""The command that shows one trial: show."""

from __future__ import annotations

import click

from orchestrator.cli import base
from orchestrator.cli.base import DONE, Examples, msa


@msa.command(
    cls=Examples,
    examples="""
    msa show runs/mosi cpsl-mosi-0123456789-00007
    msa show runs/mosi 56904c
    msa show runs/balance ogm_ge/12
    msa show runs/mosi full/confirm/0 --json
    """,
)
@click.argument("storage")
@click.argument("trial")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all there is, for programs.")
def show(storage: str, trial: str, as_json: bool) -> int:
    """All that STORAGE knows of TRIAL: configuration, state, curve, checkpoints, log, error; also while it trains.

    TRIAL is an id, the beginning of one that no other begins with, STUDY/NUMBER for a trial of a study's search, or
    STUDY/confirm/NUMBER. Of a configuration what was searched is shown, and what is not the method's default.
    """
    import json

    from orchestrator.findings.trial_details import details
    from orchestrator.views import trial_view

    with base.opened(storage) as store:
        found = details(store, trial)
        base.show(json.dumps(found) if as_json else trial_view.trial(found))
    return DONE
