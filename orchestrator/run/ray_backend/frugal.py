"""A Tune for very many trials: what it does for each one that no trial here needs is left out, and it forgets them.

As it comes, Tune asks Ray's servers three times for each trial whether it knows the worker's class, asks the worker
twice who it is, and keeps each trial that is over, 30 kB of it, for a summary that nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from orchestrator.run.ray_backend.lean import KNOWN, replaced

_KEPT = 100  # trials that are over, at least


@contextmanager
def frugal() -> Iterator[None]:
    """A Tuner that runs in this block is; any other Ray than the one that is known runs it as it comes."""
    import ray

    if ray.__version__ != KNOWN:
        yield
        return
    # ray 2.60.0: `_Registry` has pickled classes in the cluster's key-value store; `set_ray_actor` of `Trial` calls the
    # worker for a `last_result` of trials that have not reported
    from ray.tune.experiment.trial import Trial
    from ray.tune.registry import _Registry

    there, got, register = _Registry.contains, _Registry.get, _Registry.register
    known: dict[tuple[str, str], Any] = {}

    def contains(registry: Any, category: str, key: str) -> bool:
        return (category, key) in known or there(registry, category, key)

    def get(registry: Any, category: str, key: str) -> Any:
        if (category, key) not in known:
            known[category, key] = got(registry, category, key)
        return known[category, key]

    def register_anew(registry: Any, category: str, key: str, value: Any) -> None:
        known.pop((category, key), None)
        register(registry, category, key, value)

    def set_ray_actor(trial: Any, actor: Any) -> None:
        trial.temporary_state.ray_actor = actor

    with ExitStack() as stack:
        for name, instead in (("contains", contains), ("get", get), ("register", register_anew)):
            stack.enter_context(replaced(_Registry, name, instead))
        stack.enter_context(replaced(Trial, "set_ray_actor", set_ray_actor))
        yield


def forget(controller: Any) -> None:
    """Let a TuneController go of trials that are over, all but the last; it would write them all to a file, too."""
    import ray

    if ray.__version__ != KNOWN:
        return
    # ray 2.60.0: a trial that is over stays in these, and with its last result in memory
    over: tuple[set[Any], ...] = (controller._stopped_trials, controller._failed_trials)
    if sum(map(len, over)) < 2 * _KEPT:
        return
    gone = set([trial for trial in controller._trials if any(trial in each for each in over)][:-_KEPT])
    controller._trials[:] = [trial for trial in controller._trials if trial not in gone]
    for kept in (*over, controller._live_trials, controller._trials_to_cache):
        kept -= gone
