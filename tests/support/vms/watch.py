"""How fast a guest counts, and how long it stood still, by what it says."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass

from tests.support.vms.pair import Pair

INTERVAL = 0.001
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class Growth:
    """``said`` bytes of the guest's numbers were there when somebody looked, ``size`` at one side."""

    when: float
    side: str
    said: int


class Watch:
    """Notes when the guest of a pair says something, on which side. Times are of ``time.monotonic``.

    A guest that rests (``Setup.burst``) says nothing for 55 ms at a time; one that never rests shows a
    standstill to the millisecond.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._growths: list[Growth] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        sizes = {machine.name: machine.said_size() for machine in self._pair.machines}
        while not self._stop.wait(INTERVAL):
            self._look(sizes)
        self._look(sizes)  # what was said just before the end

    def _look(self, sizes: dict[str, int]) -> None:
        for machine in self._pair.machines:
            size = machine.said_size()
            if size > sizes[machine.name]:
                sizes[machine.name] = size
                self._growths.append(Growth(time.monotonic(), machine.name, size))

    def numbers_a_second(self, begin: float, end: float) -> float:
        """Return how many numbers the guest acknowledged a second; each took two writes to each disk."""
        total = 0
        for machine in self._pair.machines:
            sizes = [
                each.said for each in self._growths if each.side == machine.name and begin <= each.when <= end
            ]
            total += (sizes[-1] - sizes[0]) // 5 if sizes else 0
        return total / (end - begin)

    def longest_silence(self, begin: float, end: float) -> float:
        """Return for how many seconds at most nothing was said."""
        times = [begin, *(each.when for each in self._growths if begin < each.when < end), end]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def downtime(self) -> float:
        """Return the seconds between the last number at the source and the first one at the destination."""
        here = [each.when for each in self._growths if each.side == self._pair.source.name]
        there = [each.when for each in self._growths if each.side == self._pair.destination.name]
        return there[0] - here[-1]
