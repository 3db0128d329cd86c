"""The command that evaluates kept models with modalities missing or noisy."""

from __future__ import annotations

import click

from orchestrator.cli.base import ALLOW_CHANGED, DONE, FAILED, Examples, msa, say, show


@msa.command(
    cls=Examples,
    examples="""
    msa robustness runs/mosi
    msa robustness runs/mosi --set missing_rates=[0.5,1.0] --set noise=[]
    msa robustness runs/mosi --set modalities=[audio,vision]
    msa robustness runs/mosi --data /new/place/mosi_aligned.pkl
    """,
)
@click.argument("storage")
@click.option("--data", multiple=True, metavar="PATH", help="Where a corpus of it is now; repeatable.")
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="A value of confirm.robustness; evaluates all anew."
)
@ALLOW_CHANGED
def robustness(storage: str, data: tuple[str, ...], changes: tuple[str, ...], allow_changed: bool) -> int:
    """Evaluate STORAGE's kept models on test with modalities missing, in part or whole, or noisy.

    Models are those that confirm.keep=best has kept. Conditions are those of the experiment's confirm.robustness, or
    its defaults; a model that has rows already is left as it is, unless --set says otherwise. Trains nothing.
    """
    from orchestrator.findings import grid
    from orchestrator.run.kept_models import evaluate_kept
    from orchestrator.store import Store
    from orchestrator.views import terminal
    from orchestrator.views.live import Live

    done = evaluate_kept(storage, changes=changes, moved=data, allow_changed=allow_changed, listener=Live())
    store = Store.open(storage)
    if store.record.ablation and done.now:
        grid.write(store)
    if done.now or done.before:
        show(terminal.robustness(store))
        show(f"\n{len(done.now)} models evaluated, {len(done.before)} before (msa table --robustness)")
    if done.without_model:
        say(f"without a kept model, and so left out: {terminal.some(done.without_model)}")
    for line in done.faults:
        say(line)
    return FAILED if done.faults else DONE
