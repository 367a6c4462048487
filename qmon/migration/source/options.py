"""What a source was asked to do, and what it asks and tells the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from qmon.block.bitmaps import DirtyBitmap
from qmon.migration.phases import Phase
from qmon.migration.source.channels import Wanted
from qmon.migration.source.gain import Stuck
from qmon.migration.wire.bitmaps import BitmapOffer
from qmon.migration.wire.offer import Answers, DriveOffer, Mode, Offer


@dataclass(frozen=True, slots=True)
class Options:
    """The migrate command's arguments, and the capabilities and parameters that are fixed at its start."""

    mode: Mode
    uuid: UUID | None = None
    """The machine's, if the destination's must be equal."""
    empty: tuple[str, ...] = ()
    """The ids of drives without a medium."""
    pause_before_switchover: bool = False
    auto_converge: bool = False
    """Guests' writes are held back as far as it takes."""
    forward: bool = False
    """The requests of connected clients are forwarded at the end."""
    recover: bool = False
    """A broken line pauses the migration, if the destination agrees."""
    return_path: bool = False
    """The destination must answer, however late."""
    multifd: Wanted | None = None
    """The channels that the capability multifd asks for."""
    bitmaps: tuple[tuple[DirtyBitmap, BitmapOffer], ...] = ()
    """The dirty bitmaps that go along."""

    @property
    def wants_recovery(self) -> bool:
        """Whether a broken line is to pause the migration. Without a copy there is nothing to keep."""
        return self.recover and self.mode is not Mode.SHARED

    @property
    def channels(self) -> Wanted | None:
        """The channels for the data, None without any. Without a copy there is no data."""
        return self.multifd if self.mode is not Mode.SHARED else None

    def offer(self, id: UUID, drives: tuple[DriveOffer, ...], answers: Answers = Answers.HEARD) -> Offer:
        """Return what the destination is told, of a migration as of its trial."""
        channels = self.channels
        return Offer(
            id,
            self.mode,
            drives,
            self.uuid,
            self.empty,
            self.forward and answers is Answers.HEARD,
            recover=self.wants_recovery,
            answers=answers,
            channels=0 if channels is None else channels.count,
            packing="none" if channels is None else channels.packing,
            bitmaps=tuple(offer for _, offer in self.bitmaps),
        )


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a source calls, on its threads."""

    on_phase: Callable[[Phase], None]
    """Told each change."""
    on_stuck: Callable[[Stuck], None]
    """Told when the copy does not gain on the guests' writes."""
    is_running: Callable[[], bool]
    """Whether the machine ran when the gates closed."""
    clients: Callable[[], int]
    """Counts the clients of the drives' exports."""
    on_forwarded: Callable[[str], None]
    """Told why the forwarding of requests has ended."""
