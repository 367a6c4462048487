"""Checks requests before the disk sees them (doc/proto.md, "Error values")."""

from __future__ import annotations

from collections.abc import Mapping

from qmon.nbd.constants import MAX_PAYLOAD, Command, CommandFlag, Error
from qmon.nbd.handshake import Agreement

# Plain integers: an enum's operators cost more than serving a small read does.
READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = map(
    int,
    (
        Command.READ,
        Command.WRITE,
        Command.DISC,
        Command.FLUSH,
        Command.TRIM,
        Command.CACHE,
        Command.WRITE_ZEROES,
        Command.BLOCK_STATUS,
    ),
)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = map(
    int,
    (
        CommandFlag.FUA,
        CommandFlag.NO_HOLE,
        CommandFlag.DF,
        CommandFlag.REQ_ONE,
        CommandFlag.FAST_ZERO,
        CommandFlag.PAYLOAD_LEN,
    ),
)

# Some clients set FUA on every command ("Command flags").
_FLAGS: Mapping[int, int] = {
    READ: FUA,
    WRITE: FUA,
    FLUSH: FUA,
    TRIM: FUA,
    CACHE: FUA,
    WRITE_ZEROES: FUA | NO_HOLE | FAST_ZERO,
}
_CHANGING = frozenset((WRITE, TRIM, WRITE_ZEROES))
_ENOSPC_PAST_END = frozenset((WRITE, WRITE_ZEROES))
_LIMITED = frozenset((READ, WRITE, CACHE))


class Rules:
    """The requests that one client may send, by its handshake."""

    def __init__(self, agreement: Agreement) -> None:
        self._writable = agreement.export.writable
        self._known = known = dict(_FLAGS)
        if agreement.structured:
            known[READ] |= DF
        if agreement.contexts:
            known[BLOCK_STATUS] = FUA | REQ_ONE
        if agreement.extended:
            known[WRITE] |= PAYLOAD_LEN
            if agreement.contexts:
                known[BLOCK_STATUS] |= PAYLOAD_LEN

    def refusal(self, command: int, flags: int, offset: int, length: int, size: int) -> int:
        """Return the error value with which a request is refused, 0 if it is valid.

        ``length`` is the effect length: the bytes of the disk that the request is about.
        """
        known_flags = self._known.get(command)
        if known_flags is None or flags & ~known_flags:
            return Error.EINVAL
        if command in _CHANGING and not self._writable:
            return Error.EPERM
        if offset + length > size:
            return Error.ENOSPC if command in _ENOSPC_PAST_END else Error.EINVAL
        if length > MAX_PAYLOAD and command in _LIMITED:
            return Error.EINVAL
        if not length and command == BLOCK_STATUS:
            return Error.EINVAL
        return 0

    def reason(self, command: int, flags: int, offset: int, length: int, size: int) -> str:
        """Return in a few words why a request is refused, for people."""
        known_flags = self._known.get(command)
        name = Command(command).name if command in Command.__members__.values() else f"request {command}"
        if known_flags is None:
            return f"{name} is not offered here"
        if flags & ~known_flags:
            return f"{name} takes no flags {flags & ~known_flags:#x} here"
        if command in _CHANGING and not self._writable:
            return "the export is read-only"
        if offset + length > size:
            return f"{length} bytes at {offset} go beyond the export, which has {size} bytes"
        if length > MAX_PAYLOAD:
            return f"{name} of {length} bytes is too long: at most {MAX_PAYLOAD} bytes"
        return f"{name} of no bytes"
