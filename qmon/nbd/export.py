"""What the server serves: a disk under a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qmon.block.accounts import Accounts
from qmon.block.gate import Gate
from qmon.block.node import Node
from qmon.nbd.constants import TransmissionFlag


class Disk(Protocol):
    """A drive, as the server sees it."""

    @property
    def node(self) -> Node:
        """The top node of now; it may be another whenever the gate has been closed in between."""

    @property
    def gate(self) -> Gate:
        """Where requests wait; always the same one."""

    @property
    def accounts(self) -> Accounts:
        """Where each connection counts what it does."""


def _nobody(is_read: bool, failure: OSError) -> None:
    """Who wants to hear of no failure."""


@dataclass(frozen=True, slots=True)
class Export:
    """One disk under one name, at most MAX_STRING bytes of UTF-8; several exports may show one disk.

    ``failed`` is told, by the connection's thread, of each request on which the disk failed.
    """

    name: str
    disk: Disk
    writable: bool
    description: str = ""
    failed: Callable[[bool, OSError], None] = _nobody

    def flags(self, *, structured: bool) -> TransmissionFlag:
        """What a client may do here; ``structured`` says that it takes structured replies."""
        flags = (
            TransmissionFlag.HAS_FLAGS
            | TransmissionFlag.SEND_FLUSH
            | TransmissionFlag.SEND_FUA
            | TransmissionFlag.CAN_MULTI_CONN
        )
        if self.writable and not self.disk.node.read_only:
            flags |= TransmissionFlag.SEND_TRIM | TransmissionFlag.SEND_WRITE_ZEROES
        else:
            flags |= TransmissionFlag.READ_ONLY
        if structured:
            flags |= TransmissionFlag.SEND_DF
        return flags
