"""How a run takes up what is asked of it while it goes on, and says so."""

from __future__ import annotations

from orchestrator.run.output import Listener
from orchestrator.store.steering import Steered, Steering


class Pausing:
    """`paused`: whether trials are to be put back and none handed out; so it stays until the run rests."""

    def __init__(self, steered: Steered | None, listener: Listener) -> None:
        self._steered, self._listener = steered, listener
        self._taken_up = Steering()

    @property
    def paused(self) -> bool:
        return self._taken_up.paused

    def take_up(self, *, resting: bool = False) -> None:
        """What is asked since it was last looked at; `resting`: nothing of a paused run runs any more."""
        before = self._taken_up
        if self._steered is None or (before.paused and not resting):
            return
        self._taken_up = wanted = self._steered.wanted
        if wanted.max_concurrent != before.max_concurrent:
            self._listener.say(
                f"from now on at most {wanted.max_concurrent} trial{'s' * (wanted.max_concurrent != 1)} at a time"
            )
        if wanted.paused and not before.paused:
            self._listener.say("paused: trials that run come to their next checkpoint and are put back")
            self._listener.waits("`msa unpause`")
        elif before.paused and not wanted.paused:
            self._listener.say("no longer paused")
            self._listener.waits("workers to start")
