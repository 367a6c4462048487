"""Divides a migration's bandwidth limit among its data connections. Pure.

The shares always make up the whole limit, so the sum of what is sent never exceeds it. A connection that does
not use its share leaves the rest to the others, and gets it back within a few divisions.

``block-job-set-speed`` can't do this. QEMU (7.2 and 10) copies 16 MiB at once and then waits, whatever the
speed, and does not limit a mirror that is ready, nor the writes of one that is write-blocking. Measured with
10 MiB/s: 30 MiB/s of a guest's writes went through. So the connections are paced by the kernel
(``paced_line``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

LEAST_SECONDS = 0.5
"""Use is measured over at least this time."""

BUSY = 0.9
"""A connection that had something to send for at least this part of the time could use more."""

ROOM = 1.5
"""A connection that uses less keeps so many times what it uses."""

LEAST_PART = 0.05
"""The least share: this part of an equal one. It lets a connection show that it wants more."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a connection has carried until now; both only grow."""

    sent: int
    """Bytes."""
    busy: float
    """Seconds in which it had something to send."""


class Bandwidth:
    """Shares of a limit in bytes per second; 0: no limit."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._at = 0.0
        self._loads: dict[str, Load] = {}
        self._shares: dict[str, int] = {}
        self._divided = 0
        """The limit that was divided last."""

    def divide(self, at: float, loads: Mapping[str, Load]) -> dict[str, int]:
        """Return the share of each connection, in bytes per second; 0: no limit.

        ``loads`` has what each open connection has carried until now, at a time in seconds.
        """
        if self._is_current(at, loads):
            return dict(self._shares)
        used = self._use(at, loads)
        self._at, self._loads, self._divided = at, dict(loads), self.limit
        self._shares = self._share_out(used) if self.limit else dict.fromkeys(loads, 0)
        return dict(self._shares)

    def _is_current(self, at: float, loads: Mapping[str, Load]) -> bool:
        is_same = self.limit == self._divided and loads.keys() == self._shares.keys()
        return is_same and (not self.limit or at - self._at < LEAST_SECONDS)

    def _use(self, at: float, loads: Mapping[str, Load]) -> dict[str, float | None]:
        """Return the bytes per second that each has used; None if it could use more, or it is not known."""
        seconds = at - self._at
        used: dict[str, float | None] = {}
        for name, load in loads.items():
            before = self._loads.get(name)
            if before is None or seconds < LEAST_SECONDS or load.busy - before.busy >= seconds * BUSY:
                used[name] = None
            else:
                used[name] = max(load.sent - before.sent, 0) / seconds
        return used

    def _share_out(self, used: Mapping[str, float | None]) -> dict[str, int]:
        """Give those that use little what they need, and the rest in equal parts to the others."""
        least = self.limit / max(len(used), 1) * LEAST_PART
        needs = {name: math.inf if rate is None else max(rate * ROOM, least) for name, rate in used.items()}
        left, shares = float(self.limit), dict[str, float]()
        for place, name in enumerate(sorted(needs, key=lambda name: needs[name])):
            shares[name] = min(needs[name], left / (len(needs) - place))
            left -= shares[name]
        return {name: max(int(share + left / len(shares)), 1) for name, share in shares.items()}
