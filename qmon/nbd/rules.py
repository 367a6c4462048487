"""Checks requests before the disk sees them (doc/proto.md, "Error values")."""

from __future__ import annotations

from collections.abc import Mapping

from qmon.nbd.constants import MAX_PAYLOAD, Command, CommandFlag, Error
from qmon.nbd.handshake import Agreement

# Plain integers: an enum's operators cost more than serving a small read does.
READ, WRITE, DISC, FLUSH, TRIM, WRITE_ZEROES, BLOCK_STATUS = map(
    int,
    (
        Command.READ,
        Command.WRITE,
        Command.DISC,
        Command.FLUSH,
        Command.TRIM,
        Command.WRITE_ZEROES,
        Command.BLOCK_STATUS,
    ),
)
FUA, NO_HOLE, DF, REQ_ONE = map(
    int, (CommandFlag.FUA, CommandFlag.NO_HOLE, CommandFlag.DF, CommandFlag.REQ_ONE)
)

# Some clients set FUA on every command ("Command flags").
_FLAGS: Mapping[int, int] = {
    READ: FUA,
    WRITE: FUA,
    FLUSH: FUA,
    TRIM: FUA,
    WRITE_ZEROES: FUA | NO_HOLE,
}
_STRUCTURED_FLAGS: Mapping[int, int] = {**_FLAGS, READ: FUA | DF}
_ALLOCATION_FLAGS: Mapping[int, int] = {**_STRUCTURED_FLAGS, BLOCK_STATUS: FUA | REQ_ONE}
_CHANGING = frozenset((WRITE, TRIM, WRITE_ZEROES))
_ENOSPC_PAST_END = frozenset((WRITE, WRITE_ZEROES))


class Rules:
    """The requests that one client may send, by its handshake."""

    def __init__(self, agreement: Agreement) -> None:
        self._writable = agreement.export.writable
        if agreement.contexts:
            self._known = _ALLOCATION_FLAGS
        else:
            self._known = _STRUCTURED_FLAGS if agreement.structured else _FLAGS

    def refusal(self, command: int, flags: int, offset: int, length: int, size: int) -> int:
        """Return the error value with which a request is refused, 0 if it is valid."""
        known_flags = self._known.get(command)
        if known_flags is None or flags & ~known_flags:
            return Error.EINVAL
        if command in _CHANGING and not self._writable:
            return Error.EPERM
        if offset + length > size:
            return Error.ENOSPC if command in _ENOSPC_PAST_END else Error.EINVAL
        if length > MAX_PAYLOAD and command in (READ, WRITE):
            return Error.EINVAL
        if not length and command == BLOCK_STATUS:
            return Error.EINVAL
        return 0
