"""Whether the destination of forwarded requests shows life: when to ask it, to wait for it, to give it up."""

from __future__ import annotations

import time
from collections.abc import Callable

PING_SECONDS = 5.0
"""After so long without a byte the destination is asked for a sign of life."""

HOLD_SECONDS = 10.0
"""After so long no more requests are sent: the destination must not do what is said to have failed."""

LOST_SECONDS = 30.0
"""After so long the connection counts as lost. It is more than twice what the destination calls late."""


class VitalSigns:
    """``heard`` is for the thread that receives, the rest for the one that looks from time to time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard = clock()
        self._pinged = float("-inf")

    def heard(self) -> None:
        """Something has come."""
        self._heard = self._clock()

    @property
    def silence(self) -> float:
        """The seconds since something has come."""
        return self._clock() - self._heard

    @property
    def is_held(self) -> bool:
        """Whether no requests may be sent."""
        return self.silence > HOLD_SECONDS

    @property
    def is_lost(self) -> bool:
        """Whether the connection counts as lost."""
        return self.silence > LOST_SECONDS

    def asks(self) -> bool:
        """Whether to ask for a sign of life now; it is not asked for again at once."""
        now = self._clock()
        if self.silence <= PING_SECONDS or now - self._pinged <= PING_SECONDS:
            return False
        self._pinged = now
        return True
