"""One incoming migration: its drives, and what is known of them so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from qmon.migration.compare import Seen
from qmon.migration.destination.bitmaps import Arriving, NoBitmaps
from qmon.migration.destination.hub import Hub
from qmon.migration.destination.lines import Lines
from qmon.migration.drive import MigratingDrive
from qmon.migration.journal import Entry
from qmon.migration.wire.chains import Chains
from qmon.migration.wire.offer import DriveOffer, Mode


@dataclass(slots=True)
class OfferedDrive:
    """A drive of this side, and what the source says of its own."""

    drive: MigratingDrive
    offer: DriveOffer
    is_copied: bool
    is_compared: bool = False
    """Whether it is here already: its records are compared with it."""


@dataclass(slots=True)
class Transfer:
    """The current or the last incoming migration."""

    id: UUID
    mode: Mode
    drives: Sequence[MigratingDrive]
    records: int = 0
    digest: int = 0
    """Count and digest of the source's records before FINISH."""
    resume: bool = True
    """Whether the machine is to run at the end, because it ran at the source."""
    forwards: bool = False
    """Whether the source may forward requests of its clients afterwards."""
    offered: Sequence[OfferedDrive] = ()
    """The drives in the order of the offer: records name them by their number. Empty after a restart."""
    can_resume: bool = False
    """Whether both sides keep what they have when the line breaks."""
    is_spoiled: bool = False
    """Whether the last flush or its journal record failed, so that GO can't be waited for."""
    lines: Lines = field(default_factory=Lines)
    chains: Chains = field(default_factory=Chains)
    seen: dict[str, Seen] = field(default_factory=dict)
    """By id of a shared drive: what the last comparison has found."""
    bitmaps: Arriving = field(default_factory=NoBitmaps)
    """The dirty bitmaps that come along."""
    hub: Hub | None = None
    """Where its channels join (the capability multifd)."""

    @classmethod
    def restored(cls, entry: Entry, drives: Sequence[MigratingDrive]) -> Transfer:
        """Return what a journal record knows of a migration to the ``drives``."""
        return cls(
            entry.id,
            Mode.SHARED if entry.shared else Mode(entry.mode),
            drives,
            digest=entry.digest,
            resume=entry.resume,
            can_resume=entry.drive != "",
            lines=Lines(entry.line),
        )

    @property
    def copied(self) -> list[MigratingDrive]:
        """The drives that are copied, in the order of the offer."""
        return [each.drive for each in self.offered if each.is_copied]

    @property
    def has_overlays(self) -> bool:
        """Whether only what lies above the backing images is copied."""
        return any(each.offer.backing is not None for each in self.offered)

    def begin_chains(self) -> None:
        """Begin anew with the checksums of the drives' regions."""
        self.chains = Chains([each.offer.size for each in self.offered])
