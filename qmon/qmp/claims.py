"""Which command gets the descriptor that a client has sent, while its later messages are already read."""

from __future__ import annotations

import os
from collections.abc import Callable


class Claims:
    """Gives each command the descriptor that had arrived when its message ended.

    A descriptor that a command does not take is for the next one, unless a newer has arrived by then: as with
    a client whose messages are read one at a time.
    """

    def __init__(self, received: Callable[[], int | None]) -> None:
        """``received`` returns the newest descriptor that has arrived, or None; the caller then owns it."""
        self._received = received
        self._left: int | None = None

    def claim(self) -> Claim:
        """Claim what has arrived for the message that has just ended."""
        return Claim(self._received())

    def begin(self, claim: Claim) -> Callable[[], int | None]:
        """Let a command run; return what takes its descriptor."""
        if claim.descriptor is None:
            claim.descriptor, self._left = self._left, None
        self.close()
        return claim.take

    def end(self, claim: Claim) -> None:
        """Keep what the command has not taken."""
        self._left = claim.take()

    def close(self) -> None:
        if self._left is not None:
            os.close(self._left)
            self._left = None


class Claim:
    """The descriptor of one command, or None."""

    def __init__(self, descriptor: int | None) -> None:
        self.descriptor = descriptor

    def take(self) -> int | None:
        """Return the descriptor, which the caller then owns."""
        taken, self.descriptor = self.descriptor, None
        return taken

    def close(self) -> None:
        if (descriptor := self.take()) is not None:
            os.close(descriptor)
