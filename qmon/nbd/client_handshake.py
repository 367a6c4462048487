"""The client's handshake: chooses an export, structured replies and metadata contexts.

doc/proto.md, "Fixed newstyle negotiation", "Option types" and "Metadata querying"; with TLS "TLS support".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from qmon.host.tls import Tls
from qmon.nbd.client_socket import ClientSocket, NbdError
from qmon.nbd.constants import (
    CLIENT_FLAGS,
    EXPORT_NAME_REPLY,
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

_DEFAULT_LIMITS = (1, MAX_PAYLOAD)
_ZEROES_AFTER_EXPORT_NAME = 124
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
    structured: bool = True
    """Whether the server sends structured replies. Without them it has no contexts."""
    extended: bool = False
    """Whether headers are extended; then ``structured`` is True, too."""


class NbdOptionError(NbdError):
    """The server has refused an option. ``said`` is its text, or the name of the reply."""

    def __init__(self, option: Option, kind: int, text: str) -> None:
        self.option = option
        self.kind = kind
        known = kind in OptionReply.__members__.values()
        self.said = text or (OptionReply(kind).name if known else f"error {kind - _FIRST_ERROR}")
        if kind == OptionReply.ERR_TLS_REQD:
            super().__init__("the NBD server requires TLS: connect with TLS credentials")
        else:
            super().__init__(f"the NBD server refused {option.name}: {self.said}")


def agree(
    wire: ClientSocket,
    export: str,
    contexts: Sequence[str],
    tls: Tls | None = None,
    hostname: str | None = None,
    *,
    needs_structured: bool = True,
    knows_extended: bool = False,
) -> Agreed:
    """Do the whole handshake. Raises NbdError; contexts that the server does not have are left out.

    With ``tls`` nothing but its own start is asked in plain, and the server must have the name ``hostname``.
    Without ``needs_structured`` a server that has only simple replies will do, and one that is older still
    and can be told nothing but the export's name. With ``knows_extended`` headers are extended if the server
    has that.
    """
    flags = _greet(wire)
    if not flags & HandshakeFlag.FIXED_NEWSTYLE:
        if needs_structured or tls is not None:
            raise NbdError("the NBD server is too old: it does not know the fixed newstyle negotiation")
        return _export_name(wire, export.encode(), flags, structured=False)
    if tls is not None:
        _start_tls(wire, tls, hostname)
    name = export.encode()
    extended = knows_extended and _turn_on(wire, Option.EXTENDED_HEADERS) is None
    if not extended and (refusal := _turn_on(wire, Option.STRUCTURED_REPLY)):
        if needs_structured or refusal.kind != OptionReply.ERR_UNSUP:
            raise refusal
        return _choose(wire, name, {}, flags, structured=False)
    selected = _set_contexts(wire, name, contexts) if contexts else {}
    return replace(_choose(wire, name, selected, flags, structured=True), extended=extended)


def _turn_on(wire: ClientSocket, option: Option) -> NbdOptionError | None:
    """Send an option that has no data; return the server's refusal, if it is one. Raises NbdError."""
    try:
        for _ in _option(wire, option, b""):
            raise _wrong(f"a reply to {option.name} that is neither an error nor an end")
    except NbdOptionError as error:
        if error.kind == OptionReply.ERR_TLS_REQD:
            raise
        return error
    return None


def _greet(wire: ClientSocket) -> int:
    """Exchange the first messages; return the handshake flags of both sides."""
    first = wire.receive(8)
    if first != struct.pack(">Q", INIT_PASSWD):
        spoken = protocol_of(first)
        raise NbdError(
            f"{spoken} server answers there, not an NBD server"
            if spoken
            else f"it is not an NBD server: it begins with {excerpt(first)}"
        )
    magic, flags = struct.unpack(">QH", wire.receive(GREETING.size - 8))
    if magic != IHAVEOPT:
        raise NbdError("the NBD server is too old: it does not know the newstyle negotiation")
    common: int = flags & (HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)
    wire.send(CLIENT_FLAGS.pack(common))
    return common


def _start_tls(wire: ClientSocket, tls: Tls, hostname: str | None) -> None:
    try:
        for _ in _option(wire, Option.STARTTLS, b""):
            raise _wrong("a reply to STARTTLS that is neither an error nor an end")
    except NbdOptionError as error:
        raise NbdError(
            "the NBD server has no TLS: turn it on there, or connect without TLS credentials here"
            f" (it says: {error.said})"
        ) from error
    wire.start_tls(tls, hostname)


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
            raise NbdOptionError(option, kind, wire.receive_text(length))
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


def _choose(
    wire: ClientSocket, export: bytes, contexts: Mapping[str, int], flags: int, *, structured: bool
) -> Agreed:
    """Choose the export, by EXPORT_NAME if the server does not know GO."""
    try:
        return _go(wire, export, contexts, structured=structured)
    except NbdOptionError as error:
        if error.kind != OptionReply.ERR_UNSUP:
            raise
    return _export_name(wire, export, flags, contexts, structured=structured)


def _go(wire: ClientSocket, export: bytes, contexts: Mapping[str, int], *, structured: bool) -> Agreed:
    size, flags, limits = None, 0, _DEFAULT_LIMITS
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
    return _agreed(size, flags, limits, contexts, structured=structured)


def _export_name(
    wire: ClientSocket,
    export: bytes,
    flags: int,
    contexts: Mapping[str, int] = MappingProxyType({}),
    *,
    structured: bool,
) -> Agreed:
    """Choose the export of an old server, which can only answer or hang up."""
    wire.send(OPTION.pack(IHAVEOPT, Option.EXPORT_NAME, len(export)) + export)
    try:
        size, transmission = EXPORT_NAME_REPLY.unpack(wire.receive(EXPORT_NAME_REPLY.size))
    except NbdError as error:
        raise NbdError(f"the NBD server did not accept the name of the export: {error}") from error
    if not flags & HandshakeFlag.NO_ZEROES:
        wire.receive(_ZEROES_AFTER_EXPORT_NAME)
    return _agreed(size, transmission, _DEFAULT_LIMITS, contexts, structured=structured)


def _agreed(
    size: int | None, flags: int, limits: tuple[int, int], contexts: Mapping[str, int], *, structured: bool
) -> Agreed:
    if size is None or not flags & TransmissionFlag.HAS_FLAGS:
        raise _wrong("no size and flags in reply to the choice of the export")
    if size > MAX_SIZE or size % limits[0]:
        raise _wrong(f"a size of {size} bytes with blocks of {limits[0]}")
    return Agreed(size, TransmissionFlag(flags), *limits, contexts, structured)


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


def _wrong(what: str) -> NbdError:
    return NbdError(f"the NBD server broke the protocol: it sent {what}")
