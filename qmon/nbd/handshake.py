"""The handshake phase, without a socket: takes the client's bytes and returns the server's.

doc/proto.md, "Handshake" and "Option types"; fixed newstyle only, no TLS.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from qmon.errors import QmonError
from qmon.nbd.constants import (
    CLIENT_FLAGS,
    EXPORT_NAME_REPLY,
    GREETING,
    IHAVEOPT,
    INIT_PASSWD,
    MAX_PAYLOAD,
    MAX_STRING,
    MINIMUM_BLOCK,
    OPTION,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    PREFERRED_BLOCK,
    HandshakeFlag,
    Info,
    Option,
    OptionReply,
)
from qmon.nbd.contexts import Context, listed, selected
from qmon.nbd.export import Export

MAX_OPTION_DATA = 64 << 10
"""The longest option data that is kept; a longer one is skipped and refused."""

MAX_REPLIES = 64 << 10
"""Replies to collect before they are sent. A limit, because many short options can ask for long replies."""

_SERVER_FLAGS = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
_ZEROES_AFTER_EXPORT_NAME = bytes(124)


class ProtocolError(QmonError):
    """The client broke the protocol, so the connection must be closed."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The result of a handshake, for the transmission phase."""

    export: Export
    structured: bool
    contexts: tuple[tuple[int, Context], ...]
    """The metadata contexts that were selected, with their ids."""
    rest: bytes
    """The bytes that the client has sent after its last option."""


class _OptionError(Exception):
    """An option is refused; the client may send another one."""

    def __init__(self, reply: OptionReply, text: str) -> None:
        super().__init__(text)
        self.reply = reply


class Handshake:
    """One client's handshake: send ``greeting()``, then all that ``feed`` returns, until it is over.

    It is over when ``agreement`` is set, or when ``finished`` is; in the latter case close the connection.
    """

    def __init__(self, exports: Callable[[], Mapping[str, Export]]) -> None:
        self.agreement: Agreement | None = None
        self.finished = False
        self._exports = exports
        self._received = bytearray()
        self._skip = 0
        self._flags: HandshakeFlag | None = None
        self._structured = False
        self._context_export: Export | None = None
        self._contexts: tuple[tuple[int, Context], ...] = ()
        self._options: Mapping[int, Callable[[bytes], bytes]] = {
            Option.EXPORT_NAME: self._export_name,
            Option.ABORT: self._abort,
            Option.LIST: self._list,
            Option.INFO: self._info,
            Option.GO: self._go,
            Option.STRUCTURED_REPLY: self._structured_reply,
            Option.LIST_META_CONTEXT: self._list_meta_context,
            Option.SET_META_CONTEXT: self._set_meta_context,
        }

    def greeting(self) -> bytes:
        """Return the server's first bytes."""
        return GREETING.pack(INIT_PASSWD, IHAVEOPT, _SERVER_FLAGS)

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take bytes as they arrive, in pieces of any size; return the replies to send.

        After sending, call it again with no bytes until it returns none. Raises ProtocolError. It keeps at
        most MAX_OPTION_DATA bytes besides ``data``.
        """
        self._received += data
        replies = bytearray()
        while not self.finished and self.agreement is None and len(replies) < MAX_REPLIES:
            if self._skip:
                skipped = min(self._skip, len(self._received))
                del self._received[:skipped]
                self._skip -= skipped
            reply = self._step()
            if reply is None:
                break
            replies += reply
        return bytes(replies)

    def _step(self) -> bytes | None:
        if self._flags is None:
            return self._take_client_flags()
        if self._skip or len(self._received) < OPTION.size:
            return None
        magic, option, length = OPTION.unpack_from(self._received)
        if magic != IHAVEOPT:
            raise ProtocolError(f"an option begins with {magic:#x} instead of IHAVEOPT")
        if length > MAX_OPTION_DATA and option != Option.EXPORT_NAME:
            del self._received[: OPTION.size]
            self._skip = length
            return _reply(
                option, OptionReply.ERR_TOO_BIG, f"option data of {length} bytes is too long".encode()
            )
        if length > MAX_STRING and option == Option.EXPORT_NAME:
            raise ProtocolError(f"an export name of {length} bytes is too long")
        if len(self._received) < OPTION.size + length:
            return None
        data = bytes(self._received[OPTION.size : OPTION.size + length])
        del self._received[: OPTION.size + length]
        return self._answer(option, data)

    def _take_client_flags(self) -> bytes | None:
        if len(self._received) < CLIENT_FLAGS.size:
            return None
        (flags,) = CLIENT_FLAGS.unpack_from(self._received)
        if flags & ~int(_SERVER_FLAGS):
            raise ProtocolError(f"unknown client flags {flags:#x}")
        del self._received[: CLIENT_FLAGS.size]
        self._flags = HandshakeFlag(flags)
        return b""

    def _answer(self, option: int, data: bytes) -> bytes:
        function = self._options.get(option)
        try:
            if function is None:
                name = Option(option).name if option in Option.__members__.values() else str(option)
                raise _OptionError(OptionReply.ERR_UNSUP, f"option {name} is not supported")
            return function(data)
        except _OptionError as error:
            return _reply(option, error.reply, str(error).encode()[:MAX_STRING])

    # The options by number

    def _export_name(self, data: bytes) -> bytes:
        try:
            export = self._find(data)
        except _OptionError as error:
            raise ProtocolError(str(error)) from error
        flags = export.flags(structured=self._structured)
        self._agree(export)
        zeroes = b"" if self._flags and HandshakeFlag.NO_ZEROES in self._flags else _ZEROES_AFTER_EXPORT_NAME
        return EXPORT_NAME_REPLY.pack(export.disk.node.size, flags) + zeroes

    def _abort(self, data: bytes) -> bytes:
        self.finished = True
        return _reply(Option.ABORT, OptionReply.ACK)

    def _list(self, data: bytes) -> bytes:
        _expect_empty(Option.LIST, data)
        servers = (
            _reply(
                Option.LIST, OptionReply.SERVER, _string(export.name.encode()) + export.description.encode()
            )
            for export in self._exports().values()
        )
        return b"".join(servers) + _reply(Option.LIST, OptionReply.ACK)

    def _info(self, data: bytes) -> bytes:
        return self._describe(Option.INFO, data)[1]

    def _go(self, data: bytes) -> bytes:
        export, reply = self._describe(Option.GO, data)
        self._agree(export)
        return reply

    def _structured_reply(self, data: bytes) -> bytes:
        _expect_empty(Option.STRUCTURED_REPLY, data)
        self._structured = True
        return _reply(Option.STRUCTURED_REPLY, OptionReply.ACK)

    def _list_meta_context(self, data: bytes) -> bytes:
        export, queries = self._context_queries(data)
        return _contexts(Option.LIST_META_CONTEXT, listed(export.contexts, queries))

    def _set_meta_context(self, data: bytes) -> bytes:
        self._context_export = None
        export, queries = self._context_queries(data)
        self._context_export, self._contexts = export, tuple(selected(export.contexts, queries))
        return _contexts(Option.SET_META_CONTEXT, self._contexts)

    def _describe(self, option: Option, data: bytes) -> tuple[Export, bytes]:
        fields = _Fields(data)
        export = self._find(fields.string())
        wanted = {fields.number(2) for _ in range(fields.number(2))}
        fields.end()
        size = export.disk.node.size
        flags = export.flags(structured=self._structured)
        replies = [struct.pack(">HQH", Info.EXPORT, size, flags)]
        if Info.NAME in wanted:
            replies.append(struct.pack(">H", Info.NAME) + export.name.encode())
        if Info.DESCRIPTION in wanted and export.description:
            replies.append(struct.pack(">H", Info.DESCRIPTION) + export.description.encode())
        if Info.BLOCK_SIZE in wanted:
            limits = (Info.BLOCK_SIZE, MINIMUM_BLOCK, PREFERRED_BLOCK, MAX_PAYLOAD)
            replies.append(struct.pack(">HIII", *limits))
        infos = b"".join(_reply(option, OptionReply.INFO, reply) for reply in replies)
        return export, infos + _reply(option, OptionReply.ACK)

    def _context_queries(self, data: bytes) -> tuple[Export, set[str]]:
        if not self._structured:
            raise _OptionError(OptionReply.ERR_INVALID, "metadata contexts need structured replies")
        fields = _Fields(data)
        export = self._find(fields.string())
        queries = {fields.string().decode(errors="replace") for _ in range(fields.number(4))}
        fields.end()
        return export, queries

    def _find(self, raw_name: bytes) -> Export:
        """Find an export by name; the empty name means the only export. Raises _OptionError."""
        exports = self._exports()
        name = raw_name.decode(errors="replace")
        export = exports.get(name)
        if export is None and not name and len(exports) == 1:
            (export,) = exports.values()
        if export is None:
            known = ", ".join(f"'{known}'" for known in exports) or "none"
            raise _OptionError(OptionReply.ERR_UNKNOWN, f"export '{name}' not present; exports here: {known}")
        if export.disk.gate.is_shut:
            raise _OptionError(
                OptionReply.ERR_SHUTDOWN, f"the disk of export '{export.name}' has moved to another host"
            )
        return export

    def _agree(self, export: Export) -> None:
        self.agreement = Agreement(
            export=export,
            structured=self._structured,
            contexts=self._contexts if self._context_export is export else (),
            rest=bytes(self._received),
        )


class _Fields:
    """Reads the fields of an option's data in order. Raises _OptionError with ERR_INVALID for wrong data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def _take(self, length: int) -> bytes:
        taken = self._data[self._position : self._position + length]
        if len(taken) < length:
            raise _OptionError(OptionReply.ERR_INVALID, "option data ends too early")
        self._position += length
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def string(self) -> bytes:
        length = self.number(4)
        if length > MAX_STRING:
            raise _OptionError(OptionReply.ERR_INVALID, f"a string of {length} bytes is too long")
        return self._take(length)

    def end(self) -> None:
        if self._position < len(self._data):
            raise _OptionError(OptionReply.ERR_INVALID, "option data is longer than its fields")


def _expect_empty(option: Option, data: bytes) -> None:
    if data:
        raise _OptionError(OptionReply.ERR_INVALID, f"option {option.name} takes no data")


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _reply(option: int, reply: OptionReply, data: bytes = b"") -> bytes:
    return OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, reply, len(data)) + data


def _contexts(option: Option, contexts: Iterable[tuple[int, Context]]) -> bytes:
    found = (
        _reply(option, OptionReply.META_CONTEXT, struct.pack(">I", id) + each.name.encode())
        for id, each in contexts
    )
    return b"".join(found) + _reply(option, OptionReply.ACK)
