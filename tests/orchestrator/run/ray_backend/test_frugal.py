"""What Tune is spared for each trial; no Ray is started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from orchestrator.run.ray_backend import frugal, tune_adapters
from orchestrator.run.ray_backend.cluster import Demand


def controller(num_over: int, num_failed: int = 0) -> Any:
    """What a TuneController has of its trials, two of which run."""
    running = [object(), object()]
    failed, stopped = [object() for _ in range(num_failed)], [object() for _ in range(num_over)]
    return SimpleNamespace(
        _trials=[running[0], *failed, *stopped, running[1]],
        _stopped_trials=set(stopped),
        _failed_trials=set(failed),
        _live_trials={*running, *failed},
        _trials_to_cache={*running, *failed, *stopped},
    )


def test_trials_that_are_over_are_let_go_but_for_the_last_and_those_that_run() -> None:
    tune = controller(300, num_failed=20)
    first, *_, last = tune._trials
    newest = tune._trials[-101:-1]
    frugal.forget(tune)
    assert tune._trials == [first, *newest, last]
    assert tune._live_trials == {first, last}
    assert tune._stopped_trials | tune._failed_trials == set(newest)
    assert tune._trials_to_cache == {first, *newest, last}


def test_while_few_are_over_nothing_is_looked_through() -> None:
    tune = controller(150)
    before = list(tune._trials)
    frugal.forget(tune)
    assert tune._trials == before


def test_tune_asks_for_a_class_once_until_it_is_registered_anew(monkeypatch: Any) -> None:
    from ray.tune import registry

    asked = list[str]()

    to_be_found = ["one"]

    def looked_up(self: Any, category: str, key: str) -> Any:
        asked.append(key)
        return to_be_found[-1]

    monkeypatch.setattr(registry._Registry, "get", looked_up)
    monkeypatch.setattr(registry._Registry, "contains", lambda self, category, key: False)
    monkeypatch.setattr(registry._Registry, "register", lambda self, category, key, value: None)
    known: Any = registry._Registry()
    with frugal.frugal():
        assert [known.get("trainable", "Worker") for _ in range(3)] == ["one"] * 3
        assert known.contains("trainable", "Worker")
        assert not known.contains("trainable", "Other")
        to_be_found.append("two")
        known.register("trainable", "Worker", "two")
        assert known.get("trainable", "Worker") == "two"
    assert asked == ["Worker", "Worker"]
    assert registry._Registry.get is looked_up


def test_another_ray_is_left_as_it_is(monkeypatch: Any) -> None:
    import ray
    from ray.tune import registry

    before = registry._Registry.get
    monkeypatch.setattr(ray, "__version__", "3.0.0")
    with frugal.frugal():
        assert registry._Registry.get is before
    tune = controller(300)
    frugal.forget(tune)
    assert len(tune._trials) == 302


def test_trials_that_occupy_the_same_ask_for_the_very_same() -> None:
    of = tune_adapters.room(Demand(cpu=2.0))
    assert of({"assignments": ["a"]}) is of({"assignments": ["b"], "scale": 1, "changes": {}})
    assert of({"scale": 2}) != of({})
    assert of({"changes": {"resources.cpu": 4}}).bundles == [{"CPU": 4.0}]
