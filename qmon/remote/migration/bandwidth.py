"""Divides a migration's bandwidth limit among its data connections. Pure.

The shares always make up the whole limit, so the sum of what is sent never exceeds it. A connection that does
not use its share leaves the rest to the others, and gets it back within a few divisions.

``block-job-set-speed`` can't do this. QEMU (7.2 and 10) copies 16 MiB at once and then waits, whatever the
speed, and does not limit a mirror that is ready, nor the writes of one that is write-blocking. Measured with
10 MiB/s: 30 MiB/s of a guest's writes went through. So the connections are paced by the kernel
(``paced_line``).
"""

from __future__ import annotations

from collections.abc import Mapping

LEAST_SECONDS = 0.2
"""Use is measured over at least this time."""

USED = 0.9
"""A connection that uses at least this part of its share could use more."""

ROOM = 1.25
"""A connection that uses less keeps so many times what it uses."""

LEAST_PART = 0.05
"""The least share: this part of an equal one. It lets a connection show that it wants more."""


class Bandwidth:
    """Shares of a limit in bytes per second; 0: no limit."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._at = 0.0
        self._sent: dict[str, int] = {}
        self._shares: dict[str, int] = {}
        self._divided = 0
        """The limit that was divided last."""

    def divide(self, at: float, sent: Mapping[str, int]) -> dict[str, int]:
        """Return the share of each connection, in bytes per second; 0: no limit.

        ``sent`` has the bytes that each open connection has carried until now, at a time in seconds.
        """
        if self._is_current(at, sent):
            return dict(self._shares)
        used = self._use(at, sent)
        self._at, self._sent, self._divided = at, dict(sent), self.limit
        self._shares = self._share_out(used) if self.limit else dict.fromkeys(sent, 0)
        return dict(self._shares)

    def _is_current(self, at: float, sent: Mapping[str, int]) -> bool:
        is_same = self.limit == self._divided and sent.keys() == self._shares.keys()
        return is_same and (not self.limit or at - self._at < LEAST_SECONDS)

    def _use(self, at: float, sent: Mapping[str, int]) -> dict[str, float | None]:
        """Return the bytes per second that each has used; None if it could use more, or it is not known."""
        seconds = at - self._at
        used: dict[str, float | None] = {}
        for name, count in sent.items():
            share = self._shares.get(name, 0)
            if not share or seconds < LEAST_SECONDS:
                used[name] = None
                continue
            rate = max(count - self._sent.get(name, 0), 0) / seconds
            used[name] = None if rate >= share * USED else rate
        return used

    def _share_out(self, used: Mapping[str, float | None]) -> dict[str, int]:
        """Give those that use less what they need, and the rest in equal parts to those that want more."""
        if not used:
            return {}
        equal = self.limit / len(used)
        modest = {
            name: max(rate * ROOM, equal * LEAST_PART)
            for name, rate in used.items()
            if rate is not None and rate * ROOM < equal
        }
        others = [name for name in used if name not in modest]
        if others:
            part = (self.limit - sum(modest.values())) / len(others)
            shares = {name: modest.get(name, part) for name in used}
        else:
            spare = (self.limit - sum(modest.values())) / len(modest)
            shares = {name: share + spare for name, share in modest.items()}
        return {name: max(int(share), 1) for name, share in shares.items()}
