"""The vocabulary of a migration's state: a side's phase, and the stand that the journal records."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """How far a side has come; finer than the status in QMP."""

    NONE = "none"
    SETUP = "setup"
    ACTIVE = "active"
    PRE_SWITCHOVER = "pre-switchover"
    """Source only: the gates are closed, and it waits for migrate_continue (the capability
    pause-before-switchover)."""
    SWITCHOVER = "switchover"
    """Source only: the gates are closed, and the rest is sent."""
    PAUSED = "postcopy-paused"
    """The line is broken, or an operator has paused it. Both sides keep what they have, and wait for an
    operator to resume the migration (the capability x-qmon-recover). The source's guests run."""
    RECOVER = "postcopy-recover"
    """A paused migration is being resumed: both sides agree on what is missing."""
    PREPARED = "prepared"
    """The destination holds every byte. It runs only when GO arrives; the source may still go back."""
    GONE = "gone"
    """GO is on its way, or has arrived and the destination starts."""
    DOUBT = "doubt"
    """Source only: the connection was lost after GO, before an answer. It asks again, and does not run."""
    COMPLETED = "completed"
    SETTLED = "settled"
    """Destination only: it runs, and the source knows it."""
    FAILED = "failed"
    WRITTEN = "written"
    """Source only: as PREPARED, for something that can't answer: all was sent but GO."""
    ORDERED = "ordered"
    """Source only: as GONE, for something that can't answer."""
    UNCONFIRMED = "unconfirmed"
    """Source only: all was sent to something that can't answer. It stays stopped, with its disks."""
    CONTINUED = "continued"
    """Source only: it was UNCONFIRMED, and the operator has continued the machine here."""
    ABANDONED = "abandoned"
    """Source only: as UNCONFIRMED, but the command or the connection has failed when all was sent."""
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_under_way(self) -> bool:
        """Whether a migration has begun and not ended: its drives are busy."""
        return self not in _ENDED

    @property
    def status(self) -> str:
        """The MigrationStatus that QMP shows."""
        return _STATUS.get(self, self.value)


_ENDED = frozenset(
    {
        Phase.NONE,
        Phase.COMPLETED,
        Phase.SETTLED,
        Phase.UNCONFIRMED,
        Phase.CONTINUED,
        Phase.ABANDONED,
        Phase.FAILED,
        Phase.CANCELLED,
    }
)

_STATUS = {
    Phase.SWITCHOVER: "device",
    Phase.PREPARED: "device",
    Phase.GONE: "device",
    Phase.WRITTEN: "device",
    Phase.ORDERED: "device",
    Phase.DOUBT: "device",
    Phase.SETTLED: "completed",
    Phase.UNCONFIRMED: "completed",
    Phase.CONTINUED: "completed",
    Phase.ABANDONED: "failed",
}
"""The status of phases whose own name is not one."""


class Role(enum.Enum):
    """A side of the migration. With shared storage both may be on one host, so a record says which it is."""

    SOURCE = "source"
    DESTINATION = "destination"


class Stand(enum.Enum):
    """What the journal records about an image: which side may use it."""

    COPYING = "copying"
    """Source: it runs, and its disks are copied. After a restart the migration can be resumed."""
    GONE = "gone"
    """Source: it sent GO, or was about to, and does not know whether the destination runs."""
    MOVED = "moved"
    """Source: the destination runs. The image here is out of date."""
    UNCONFIRMED = "unconfirmed"
    """Source: it has sent everything to something that can't answer. The machine stays stopped."""
    KEPT = "kept"
    """Source: it has taken the image back, whatever another host has recorded."""
    PARTIAL = "partial"
    """Destination: the image is incomplete. After a restart the migration is paused and can be resumed."""
    PREPARED = "prepared"
    """Destination: the image is complete. The destination may run when GO arrives."""
    RUNNING = "running"
    """Destination: it runs; the source may not know it yet."""
    SETTLED = "settled"
    """Destination: it runs, and the source knows it."""
    ENDED = "ended"
    """Destination: it ran, the source knows it, and the process has ended properly."""
    REFUSED = "refused"
    """Destination: the image was complete, but the destination has refused to run."""

    @property
    def role(self) -> Role:
        """The side that records this."""
        is_source = self in (Stand.COPYING, Stand.GONE, Stand.MOVED, Stand.UNCONFIRMED, Stand.KEPT)
        return Role.SOURCE if is_source else Role.DESTINATION

    @property
    def is_waiting(self) -> bool:
        """Whether this side must not use the image until the other has answered."""
        return self in (Stand.GONE, Stand.PREPARED)

    @property
    def can_resume(self) -> bool:
        """Whether the migration is paused after a restart, and can be resumed."""
        return self in (Stand.COPYING, Stand.PARTIAL)

    @property
    def runs_again(self) -> bool:
        """Whether this side was running when its process ended: after a restart it runs again."""
        return self in (Stand.RUNNING, Stand.SETTLED, Stand.COPYING)

    @property
    def is_over(self) -> bool:
        """Whether this side has nothing left to decide about the image."""
        return self in RAN or self in (Stand.REFUSED, Stand.KEPT)

    @property
    def ends_others(self) -> bool:
        """Whether this makes the records of the image's other migrations obsolete."""
        return self in (Stand.GONE, Stand.MOVED, Stand.UNCONFIRMED, Stand.RUNNING)

    @property
    def phase(self) -> Phase:
        """The side's phase after a restart. KEPT and ENDED have none: their migration is over."""
        return _AFTER_RESTART[self]


RAN = frozenset({Stand.RUNNING, Stand.SETTLED, Stand.ENDED})

_AFTER_RESTART = {
    Stand.COPYING: Phase.PAUSED,
    Stand.GONE: Phase.DOUBT,
    Stand.MOVED: Phase.COMPLETED,
    Stand.PARTIAL: Phase.PAUSED,
    Stand.UNCONFIRMED: Phase.UNCONFIRMED,
    Stand.PREPARED: Phase.PREPARED,
    Stand.RUNNING: Phase.COMPLETED,
    Stand.SETTLED: Phase.SETTLED,
    Stand.REFUSED: Phase.FAILED,
}
