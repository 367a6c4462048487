"""What a migration needs of a drive, on either side; the machine's drives are such."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from qmon.block.gate import Gate
from qmon.block.image import FileIdentity, ImageNode
from qmon.block.node import Node
from qmon.block.recent import RecentWrites
from qmon.block.stack import NodeStack
from qmon.errors import QmonError, naming

GATE_REASON = "migration"


class MigratingDrive(Protocol):
    """A drive under migration. Its calls block, so they belong on data threads."""

    @property
    def id(self) -> str: ...

    @property
    def image(self) -> str:
        """The image's file name, by which its record is kept."""

    @property
    def size(self) -> int:
        """The virtual size in bytes, known also while the image is not open."""

    @property
    def backing_size(self) -> int | None:
        """The virtual size of what backs the image, known also while that is not open; None for nothing."""

    @property
    def read_only(self) -> bool: ...

    @property
    def gate(self) -> Gate: ...

    @property
    def node(self) -> Node:
        """The top of ``stack``."""

    @property
    def stack(self) -> NodeStack:
        """What requests pass through."""

    @property
    def is_flushed_on_leaving(self) -> bool:
        """Whether ``deactivate`` flushes even when it is not asked to: there may be tables in memory only."""

    @property
    def recent(self) -> RecentWrites:
        """What guests wrote last."""

    def open_to_compare(self) -> ImageNode:
        """Open the image anew, as it is in storage now, for reading alone and without a lock. Raises OSError.

        What this host has cached of it is not looked at, where the file system can do without.
        """

    def identify(self) -> tuple[FileIdentity, ...]:
        """Which files the open image is made of. Raises OSError."""

    def probe(self) -> None:
        """Look again at an image that is not active, without a lock: its size may have changed.

        Raises OSError.
        """

    def check_name(self) -> None:
        """Raises OSError where a name does not lead to the open image any more, or to what backs it."""

    def leave_to_backing(self, offset: int, length: int) -> None:
        """Give up what the topmost image holds of a range, in bytes; what backs it shows through then.

        The drive is active, and nobody else uses it. Clusters that the range covers only in part stay.
        Raises OSError.
        """

    def open_to_fill(self) -> None:
        """Have the image of an active read-only drive open for writing, and locked so, until ``end_filling``.

        Raises OSError, and stays open for reading alone.
        """

    def end_filling(self) -> None:
        """Flush, and have the image of a read-only drive open for reading alone again, if it is not.

        Raises OSError.
        """

    def activate(self) -> None:
        """Open the image and take its locks; nothing when it is active.

        Raises OSError, also for another image than the one that was deactivated.
        """

    def deactivate(self, *, flush: bool = True) -> None:
        """Flush, close the image and give up its locks; nothing when it is not active.

        Without ``flush`` what is in the file already is not waited for, but where ``is_flushed_on_leaving``.
        Raises OSError when that failed, and stays active.
        """

    def abandon(self) -> None:
        """Close the image, whatever becomes of what was written since the last flush: nobody wants it."""


class Named(Protocol):
    """A drive, to an error."""

    @property
    def id(self) -> str: ...


def flushing(
    drive: Named, kind: type[QmonError] = QmonError, where: str = ""
) -> AbstractContextManager[None]:
    """Turn an OSError of a flush into one of ``kind`` that names the drive."""
    return naming(f"drive '{drive.id}': flush failed{where}", kind)
