"""What may be said of a migration's state: a side's phase, and the stand that is recorded for a restart."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """Where a side is; finer than the status that QMP shows."""

    NONE = "none"
    SETUP = "setup"
    ACTIVE = "active"
    PRE_SWITCHOVER = "pre-switchover"
    """The source's gates are closed, and it waits to be told to go on (the capability
    pause-before-switchover). The destination knows no such phase."""
    SWITCHOVER = "switchover"
    """The source's gates are closed, what is left is sent. The destination knows no such phase."""
    PREPARED = "prepared"
    """The destination holds every byte. It runs on GO only; the source may still go back."""
    GONE = "gone"
    """GO is on its way, or has arrived and the destination starts."""
    DOUBT = "doubt"
    """After GO the connection was lost before an answer came: the source asks again, and does not run."""
    COMPLETED = "completed"
    SETTLED = "settled"
    """The destination runs, and the source knows it. The source knows no such phase."""
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_under_way(self) -> bool:
        """Whether a migration is begun and not over: the drives are busy."""
        return self not in _ENDED

    @property
    def status(self) -> str:
        """The QMP MigrationStatus that it is shown as."""
        return _STATUS.get(self, self.value)


_ENDED = frozenset({Phase.NONE, Phase.COMPLETED, Phase.SETTLED, Phase.FAILED, Phase.CANCELLED})

_STATUS = {
    Phase.SWITCHOVER: "device",
    Phase.PREPARED: "device",
    Phase.GONE: "device",
    Phase.DOUBT: "device",
    Phase.SETTLED: "completed",
}
"""Where it is not the phase's own name."""


class Role(enum.Enum):
    """Which end of the migration the record is of: with shared storage both may be on one host."""

    SOURCE = "source"
    DESTINATION = "destination"


class Stand(enum.Enum):
    """How things stand with an image."""

    GONE = "gone"
    """This side told the other to run with it, and has not heard whether it does."""
    MOVED = "moved"
    """The other side runs with it: what is here is left behind."""
    KEPT = "kept"
    """This side has it again, whatever another host has recorded of the migration."""
    PREPARED = "prepared"
    """It has arrived here, whole, and may be run with when the source says so."""
    RUNNING = "running"
    """It has arrived here and this side runs with it; the source may not know yet."""
    SETTLED = "settled"
    """It has arrived here and this side runs with it, which the source knows."""
    ENDED = "ended"
    """This side ran with it, which the source knows, and has ended in good order."""
    REFUSED = "refused"
    """It had arrived here, and this side has refused to run with it."""

    @property
    def role(self) -> Role:
        """Which end of the migration says so."""
        is_source = self in (Stand.GONE, Stand.MOVED, Stand.KEPT)
        return Role.SOURCE if is_source else Role.DESTINATION

    @property
    def is_waiting(self) -> bool:
        """Whether neither side uses the image until the other has answered."""
        return self in (Stand.GONE, Stand.PREPARED)

    @property
    def runs_again(self) -> bool:
        """Whether the destination ran, and was cut off: started again, it runs on."""
        return self in (Stand.RUNNING, Stand.SETTLED)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be settled about the image here."""
        return self in RAN or self in (Stand.REFUSED, Stand.KEPT)

    @property
    def ends_others(self) -> bool:
        """Whether nothing holds any more that other migrations have recorded of the image."""
        return self in (Stand.GONE, Stand.MOVED, Stand.RUNNING)

    @property
    def phase(self) -> Phase:
        """Where its side stands after a restart; KEPT and ENDED are no longer of a migration."""
        return _AFTER_RESTART[self]


RAN = frozenset({Stand.RUNNING, Stand.SETTLED, Stand.ENDED})

_AFTER_RESTART = {
    Stand.GONE: Phase.DOUBT,
    Stand.MOVED: Phase.COMPLETED,
    Stand.PREPARED: Phase.PREPARED,
    Stand.RUNNING: Phase.COMPLETED,
    Stand.SETTLED: Phase.SETTLED,
    Stand.REFUSED: Phase.FAILED,
}
