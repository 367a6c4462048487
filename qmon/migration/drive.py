"""The interface of a drive that a migration uses, on either side."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from qmon.block.accounts import Accounts
from qmon.block.gate import Gate
from qmon.block.image import FileIdentity, ImageNode
from qmon.block.node import Node
from qmon.block.recent import RecentWrites
from qmon.block.stack import NodeStack
from qmon.errors import QmonError, naming

GATE_REASON = "migration"


class GuestSide(Protocol):
    """What the requests of a drive's guests pass."""

    @property
    def gate(self) -> Gate: ...

    @property
    def node(self) -> Node:
        """The drive's nodes, with the limits of its guests."""

    @property
    def accounts(self) -> Accounts: ...


class MigratingDrive(Protocol):
    """A drive under migration. Its methods block: call them on data threads."""

    @property
    def id(self) -> str: ...

    @property
    def image(self) -> str:
        """The image's file name, under which the journal keeps its record."""

    @property
    def size(self) -> int:
        """The virtual size in bytes; known even while the image is closed."""

    @property
    def backing_size(self) -> int | None:
        """The virtual size of the backing image in bytes, known even while it is closed; None without one."""

    @property
    def read_only(self) -> bool: ...

    @property
    def gate(self) -> Gate: ...

    @property
    def guest(self) -> GuestSide:
        """The drive as its guests' requests meet it."""

    @property
    def node(self) -> Node:
        """The top of ``stack``."""

    @property
    def stack(self) -> NodeStack:
        """The nodes that requests pass through."""

    @property
    def is_flushed_on_leaving(self) -> bool:
        """Whether ``deactivate`` always flushes, because tables of the image may be in memory only."""

    @property
    def recent(self) -> RecentWrites:
        """The guests' last writes."""

    def open_to_compare(self) -> ImageNode:
        """Open the image again, read-only and without a lock. Raises OSError.

        If the file system can, it is read from storage, not from this host's cache.
        """

    def sparing_page_cache(self) -> AbstractContextManager[None]:
        """Inside, reads of this thread leave this host's page cache as they found it."""

    def forget_cached(self) -> None:
        """Drop what the page cache has of the open image; what is not flushed stays. Raises OSError."""

    def identify(self) -> tuple[FileIdentity, ...]:
        """Return the identities of the open image's files. Raises OSError."""

    def probe(self) -> None:
        """Read the size of an inactive image again, without a lock. Raises OSError."""

    def check_name(self) -> None:
        """Raises OSError if the name of the open image or a backing image leads to another file now."""

    def leave_to_backing(self, offset: int, length: int) -> None:
        """Free the overlay's clusters in a range, given in bytes; then the backing image is read there.

        The drive must be active and not in use. Clusters that the range covers only in part are kept.
        Raises OSError.
        """

    def open_to_fill(self) -> None:
        """Open and lock the image of an active read-only drive for writing, until ``end_filling``.

        Raises OSError; then the image stays open read-only.
        """

    def end_filling(self) -> None:
        """Flush, and open the image of a read-only drive read-only again, if it is open for writing.

        Raises OSError.
        """

    def activate(self) -> None:
        """Open the image and take its locks, unless it is active.

        Raises OSError, also if it is not the image that was deactivated.
        """

    def deactivate(self, *, flush: bool = True) -> None:
        """Flush, close the image and release its locks, unless it is inactive.

        With ``flush`` False the file is not flushed, except if ``is_flushed_on_leaving``. Raises OSError if
        the flush fails; then the drive stays active.
        """

    def abandon(self) -> None:
        """Close the image without a flush. Writes since the last flush may be lost."""


class Named(Protocol):
    """A drive in an error message."""

    @property
    def id(self) -> str: ...


def flushing(
    drive: Named, kind: type[QmonError] = QmonError, where: str = ""
) -> AbstractContextManager[None]:
    """Return a context that turns an OSError of a flush into a ``kind`` that names the drive."""
    return naming(f"drive '{drive.id}': flush failed{where}", kind)
