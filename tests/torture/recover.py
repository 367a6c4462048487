"""A run in which a migration is interrupted again and again, and resumed each time until it completes."""

from __future__ import annotations

import time
from pathlib import Path

from tests.torture.scenario import Interruption, Scenario
from tests.torture.trial import MOVED, Result, Side, Trial, View, uri_of

PAUSED = "postcopy-paused"
PAUSE_SECONDS = 60.0
"""In which both sides have noticed a broken line, and a resume has begun to send."""

DOUBT_SECONDS = 3.0
"""How long a source may ask in vain at an address at which nobody listens any more."""


class RecoverTrial(Trial):
    """A run of ``scenario``, of the kind ``recover``, in ``folder``."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        super().__init__(scenario, folder)
        self._there = uri_of(self._port)
        """Where the destination listens."""

    def _prepare(self) -> None:
        super()._prepare()
        for side in (self._source, self._target):
            # What the source serves for the destination would look as if both ran.
            side.qmon.quietly("migrate_set_capability x-qmon-forward off")
            side.qmon.quietly("migrate_set_capability x-qmon-recover on")
        match self._scenario.seed % 3:
            case 0:
                self._source.qmon.quietly("migrate_set_parameter x-qmon-copy-mode write-blocking")
            case 1:
                self._hold_back()

    def _migrate(self) -> None:
        super()._migrate()
        while self._observe()[0].phase == "setup":  # what breaks before both have agreed, fails
            time.sleep(0.001)
        for interruption in self._scenario.interruptions:
            time.sleep(interruption.delay)
            self._trace.note(str(interruption))
            self._interrupt(interruption)
            if not self._wait_paused():
                break
            self._resume(interruption.route)
        if self._source.alive:
            self._source.qmon.command("migrate_set_parameter max-bandwidth 0")

    def _interrupt(self, interruption: Interruption) -> None:
        sides = [side for side in (self._source, self._target) if side.name in interruption.victims]
        match interruption.what:
            case "cut":
                self._proxy.cut()
                if self._observe()[0].phase in ("setup", "active"):  # it may go another way
                    self._source.qmon.command("migrate_pause")
            case "pause":
                for side in sides:
                    side.qmon.command("migrate_pause")
            case _:
                self._ready.clear()
                for side in sides:
                    side.kill(orderly=interruption.what == "end")
                for side in sides:
                    side.restart(renamed=False)
                    self._limit(side)
                self._ready.set()

    def _limit(self, side: Side) -> None:
        if side is self._source:
            side.qmon.quietly(f"migrate_set_parameter max-bandwidth {self._scenario.bandwidth}M")
        else:
            self._there = uri_of(self._port)  # as its command line says

    def _wait_paused(self) -> bool:
        """Wait until both have noticed; return False if the migration is over instead."""
        deadline = time.monotonic() + PAUSE_SECONDS
        doubt_since: float | None = None
        while True:
            source, target = self._observe()
            if source.phase == PAUSED and target.phase in (PAUSED, "device"):
                return True
            if self._is_over(source, target):
                return False
            is_in_doubt = "not known whether" in source.migration
            doubt_since = (doubt_since or time.monotonic()) if is_in_doubt else None
            if doubt_since is not None and time.monotonic() > doubt_since + DOUBT_SECONDS:
                self._source.qmon.command(f"migrate -d -r {self._there}")
            assert time.monotonic() < deadline, f"not paused: source {source}, target {target}"
            time.sleep(0.01)

    @property
    def _is_orderly(self) -> bool:
        """Whether a destination that runs already may have been ended."""
        return any(each.what == "end" for each in self._scenario.interruptions)

    def _judge(self) -> None:
        super()._judge()
        if not self._views[1].runs and self._result.outcome != "completed, and ended":
            self._result.problems.append(f"it did not complete: {self._views}")

    @staticmethod
    def _is_over(source: View, target: View) -> bool:
        return source.status == MOVED or (source.runs and source.phase in ("failed", "none"))

    def _resume(self, route: str) -> None:
        uri = uri_of(self._proxy.port) if route == "proxy" else self._there
        if route == "another":
            uri = self._there = f"unix:{self._folder}/again.sock"
        elif route == "command":
            uri = f'"exec:socat - {self._there}"'
        elif route == "proxy":
            self._there = uri_of(self._port)
        said = self._target.qmon.command(f"migrate_recover {self._there}")
        assert not said, said
        said = self._source.qmon.command(f"migrate -d -r {uri}")
        assert not said, said
        deadline = time.monotonic() + PAUSE_SECONDS
        while (source := self._observe()[0]).phase == "postcopy-recover":
            assert time.monotonic() < deadline, f"it does not resume: {source}"
            time.sleep(0.002)
        assert source.phase != PAUSED, f"it was not resumed by {uri}: {source}"


def try_out_recover(scenario: Scenario, folder: Path) -> Result:
    """Run a scenario in a fresh folder, which stays when a promise was broken."""
    folder.mkdir(parents=True)
    return RecoverTrial(scenario, folder).run()
