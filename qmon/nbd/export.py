"""An export: a disk that the NBD server offers under a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qmon.block.accounts import Accounts
from qmon.block.gate import Gate
from qmon.block.node import Node
from qmon.nbd.constants import TransmissionFlag
from qmon.nbd.contexts import ALLOCATION, Context


class Disk(Protocol):
    """The part of a drive that the server uses."""

    @property
    def node(self) -> Node:
        """The current top node. It may change while the gate is closed."""

    @property
    def gate(self) -> Gate:
        """The gate that holds requests; it never changes."""

    @property
    def accounts(self) -> Accounts:
        """The statistics to which each connection adds its requests."""


def _nobody(is_read: bool, failure: OSError) -> None:
    """The default of ``Export.failed``: does nothing."""


@dataclass(frozen=True, slots=True)
class Export:
    """One disk under one name of at most MAX_STRING bytes of UTF-8. A disk may have several exports.

    The connection's thread calls ``failed`` for each request that fails on the disk.
    """

    name: str
    disk: Disk
    writable: bool
    description: str = ""
    failed: Callable[[bool, OSError], None] = _nobody
    contexts: tuple[Context, ...] = (ALLOCATION,)
    """The metadata contexts that clients can ask for."""

    def flags(self, *, structured: bool, status_payload: bool = False) -> TransmissionFlag:
        """Return the transmission flags.

        ``structured``: the client has negotiated structured replies. ``status_payload``: it has also
        negotiated extended headers, and has selected metadata contexts.
        """
        flags = (
            TransmissionFlag.HAS_FLAGS
            | TransmissionFlag.SEND_FLUSH
            | TransmissionFlag.SEND_FUA
            | TransmissionFlag.CAN_MULTI_CONN
            | TransmissionFlag.SEND_CACHE
        )
        if self.writable and not self.disk.node.read_only:
            flags |= (
                TransmissionFlag.SEND_TRIM
                | TransmissionFlag.SEND_WRITE_ZEROES
                | TransmissionFlag.SEND_FAST_ZERO
            )
        else:
            flags |= TransmissionFlag.READ_ONLY
        if structured:
            flags |= TransmissionFlag.SEND_DF
        if status_payload:
            flags |= TransmissionFlag.BLOCK_STATUS_PAYLOAD
        return flags
