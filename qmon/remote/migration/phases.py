"""How far each side of a migration between two QEMUs has come."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """How far a side has come; finer than the status in QMP."""

    NONE = "none"
    SETUP = "setup"
    """The sides agree. Nothing has been changed in either QEMU."""
    COPYING = "copying"
    """The disks are copied while the guest runs."""
    MOVING = "moving"
    """The memory is sent, too. At the destination: its QEMU reads the memory, or waits for it."""
    PAUSED = "paused"
    """Source: its QEMU has stopped the guest and waits; the copy of the disks is ended and checked."""
    SWITCHING = "switching"
    """Source: its QEMU was told to go on, and has not said how that ended."""
    ARRIVED = "arrived"
    """Destination: its QEMU holds the guest, whole and stopped. It runs it only when RUN arrives."""
    HANDED = "handed"
    """Source: its QEMU has completed and will not run the guest by itself; RUN is on its way."""
    DOUBT = "doubt"
    """Source: the connection was lost after RUN, before an answer. It asks again.

    Destination: ``cont`` failed, and whether the guest has run is not known.
    """
    RUNNING = "running"
    """Destination: RUN has arrived, and the guest is started."""
    COMPLETED = "completed"
    SETTLED = "settled"
    """Destination: the guest runs, and the source knows it."""
    REFUSED = "refused"
    """Destination: it will never run this guest."""
    UNDOING = "undoing"
    """Source: it failed; what was changed is taken back. The guest runs here."""
    CANCELLING = "cancelling"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def status(self) -> str:
        """The MigrationStatus that QMP shows."""
        return _STATUS.get(self, self.value)

    @property
    def is_under_way(self) -> bool:
        """Whether a migration has begun and has not ended."""
        return self not in _ENDED


_ENDED = frozenset({Phase.NONE, Phase.COMPLETED, Phase.SETTLED, Phase.REFUSED, Phase.FAILED, Phase.CANCELLED})

_STATUS = {
    Phase.COPYING: "active",
    Phase.MOVING: "active",
    Phase.PAUSED: "pre-switchover",
    Phase.SWITCHING: "device",
    Phase.ARRIVED: "device",
    Phase.HANDED: "device",
    Phase.DOUBT: "device",
    Phase.RUNNING: "device",
    Phase.SETTLED: "completed",
    Phase.REFUSED: "failed",
    Phase.UNDOING: "cancelling",
}
