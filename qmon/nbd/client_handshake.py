"""The client's handshake: chooses an export, structured replies and metadata contexts.

doc/proto.md, "Fixed newstyle negotiation", "Option types" and "Metadata querying". No TLS.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from qmon.nbd.client_socket import ClientSocket, NbdError
from qmon.nbd.constants import (
    CLIENT_FLAGS,
    GREETING,
    IHAVEOPT,
    INIT_PASSWD,
    MAX_PAYLOAD,
    MAX_STRING,
    OPTION,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    HandshakeFlag,
    Info,
    Option,
    OptionReply,
    TransmissionFlag,
)
from qmon.notation.strangers import excerpt, protocol_of

MAX_REPLIES = 64
"""Replies that one option may have before the final one."""

MAX_REPLY_BYTES = MAX_STRING + 4
"""The longest data of a reply: a string and a number."""

MAX_SIZE = (1 << 63) - 1
"""The largest size of an export in bytes: the largest offset of a file."""

_FIRST_ERROR = 1 << 31
_EXPORT = struct.Struct(">HQH")
_BLOCK_SIZE = struct.Struct(">HIII")
_CONTEXT = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Agreed:
    """The result of a handshake."""

    size: int
    """The size of the export in bytes."""
    flags: TransmissionFlag
    minimum_block: int
    """Offsets and lengths of requests are multiples of this."""
    maximum_payload: int
    """The most bytes that one request may read."""
    contexts: Mapping[str, int]
    """The ids of the metadata contexts that the server has selected."""


def agree(wire: ClientSocket, export: str, contexts: Sequence[str]) -> Agreed:
    """Do the whole handshake. Raises NbdError; contexts that the server does not have are left out."""
    _greet(wire)
    name = export.encode()
    for _ in _option(wire, Option.STRUCTURED_REPLY, b""):
        raise _wrong("a reply to STRUCTURED_REPLY that is neither an error nor an end")
    selected = _set_contexts(wire, name, contexts) if contexts else {}
    return _go(wire, name, selected)


def _greet(wire: ClientSocket) -> None:
    first = wire.receive(8)
    if first != struct.pack(">Q", INIT_PASSWD):
        spoken = protocol_of(first)
        raise NbdError(
            f"{spoken} server answers there, not an NBD server"
            if spoken
            else f"it is not an NBD server: it begins with {excerpt(first)}"
        )
    magic, flags = struct.unpack(">QH", wire.receive(GREETING.size - 8))
    if magic != IHAVEOPT or not flags & HandshakeFlag.FIXED_NEWSTYLE:
        raise NbdError("the NBD server is too old: it does not know the fixed newstyle negotiation")
    ours = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
    wire.send(CLIENT_FLAGS.pack(flags & ours))


def _option(wire: ClientSocket, option: Option, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Send an option; yield its replies up to ACK, which is not among them. Raises NbdError."""
    wire.send(OPTION.pack(IHAVEOPT, option, len(data)) + data)
    for _ in range(MAX_REPLIES):
        magic, answered, kind, length = OPTION_REPLY.unpack(wire.receive(OPTION_REPLY.size))
        if magic != OPTION_REPLY_MAGIC or answered != option:
            raise _wrong(f"a reply to another option than {option.name}")
        if length > MAX_REPLY_BYTES:
            raise _wrong(f"a reply of {length} bytes to {option.name}")
        if kind >= _FIRST_ERROR:
            raise _refusal(option, kind, wire.receive_text(length))
        if kind == OptionReply.ACK:
            if length:
                raise _wrong(f"an ACK with {length} bytes of data")
            return
        yield kind, wire.receive(length)
    raise _wrong(f"more than {MAX_REPLIES} replies to {option.name}")


def _set_contexts(wire: ClientSocket, export: bytes, wanted: Sequence[str]) -> dict[str, int]:
    names = [name.encode() for name in wanted]
    data = _string(export) + struct.pack(">I", len(names)) + b"".join(map(_string, names))
    selected: dict[str, int] = {}
    for kind, reply in _option(wire, Option.SET_META_CONTEXT, data):
        if kind != OptionReply.META_CONTEXT or len(reply) < _CONTEXT.size:
            raise _wrong(f"a reply of type {kind} and {len(reply)} bytes to SET_META_CONTEXT")
        (number,) = _CONTEXT.unpack_from(reply)
        name = reply[_CONTEXT.size :].decode(errors="replace")
        if name not in wanted or name in selected or number in selected.values():
            raise _wrong("a metadata context that was not asked for, or one twice")
        selected[name] = number
    return selected


def _go(wire: ClientSocket, export: bytes, contexts: Mapping[str, int]) -> Agreed:
    size, flags, limits = None, 0, (1, MAX_PAYLOAD)
    for kind, reply in _option(wire, Option.GO, _string(export) + struct.pack(">HH", 1, Info.BLOCK_SIZE)):
        if kind != OptionReply.INFO or len(reply) < 2:
            raise _wrong(f"a reply of type {kind} and {len(reply)} bytes to GO")
        match int.from_bytes(reply[:2], "big"):
            case Info.EXPORT if len(reply) == _EXPORT.size and size is None:
                _, size, flags = _EXPORT.unpack(reply)
            case Info.BLOCK_SIZE if len(reply) == _BLOCK_SIZE.size:
                limits = _block_limits(*_BLOCK_SIZE.unpack(reply)[1:])
            case Info.EXPORT | Info.BLOCK_SIZE:
                raise _wrong("a reply to GO of the wrong length, or one twice")
    if size is None or not flags & TransmissionFlag.HAS_FLAGS:
        raise _wrong("no size and flags in reply to GO")
    if size > MAX_SIZE or size % limits[0]:
        raise _wrong(f"a size of {size} bytes with blocks of {limits[0]}")
    return Agreed(size, TransmissionFlag(flags), *limits, contexts)


def _block_limits(minimum: int, preferred: int, maximum: int) -> tuple[int, int]:
    """Return the smallest block and the largest payload ("Block size constraints"). Raises NbdError."""
    if (
        not 0 < minimum <= 64 << 10
        or minimum & (minimum - 1)
        or preferred < max(minimum, 512)
        or preferred & (preferred - 1)
        or maximum < minimum
    ):
        raise _wrong(f"impossible block sizes {minimum}, {preferred}, {maximum}")
    return minimum, min(maximum, MAX_PAYLOAD) // minimum * minimum


def _string(text: bytes) -> bytes:
    if len(text) > MAX_STRING:
        raise NbdError(f"a name of {len(text)} bytes is longer than NBD allows ({MAX_STRING})")
    return struct.pack(">I", len(text)) + text


def _refusal(option: Option, kind: int, text: str) -> NbdError:
    known = kind in OptionReply.__members__.values()
    name = OptionReply(kind).name if known else f"error {kind - _FIRST_ERROR}"
    return NbdError(f"the NBD server refused {option.name}: {text or name}")


def _wrong(what: str) -> NbdError:
    return NbdError(f"the NBD server broke the protocol: it sent {what}")
