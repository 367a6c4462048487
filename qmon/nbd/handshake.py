"""The handshake phase, without a socket: takes the client's bytes and returns the server's.

doc/proto.md, "Handshake", "Option types" and, if the server has TLS, "FORCEDTLS mode"; fixed newstyle only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
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
    PREFERRED_BLOCK,
    HandshakeFlag,
    Info,
    Option,
    OptionReply,
)
from qmon.nbd.contexts import Context, listed, selected
from qmon.nbd.export import Export
from qmon.nbd.option_data import Fields, OptionError, context_replies, expect_empty, reply, string

MAX_OPTION_DATA = 64 << 10
"""The longest option data that is kept; a longer one is skipped and refused."""

MAX_SKIPPED = MAX_PAYLOAD
"""The longest option data that is skipped. An option that announces more ends the connection, as in QEMU."""

MAX_OPTIONS = 4096
"""The most options of one client. A client that shows 500 exports sends a few options for each."""

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
    extended: bool = False
    """Whether headers are extended; then ``structured`` is True, too."""


class Handshake:
    """One client's handshake: send ``greeting()``, then all that ``feed`` returns, until it is over.

    It is over when ``agreement`` is set, or when ``finished`` is; in the latter case close the connection.
    With ``starts_tls`` set, send what was returned, do the handshake of TLS, and call ``secured``.
    """

    def __init__(self, exports: Callable[[], Mapping[str, Export]], *, needs_tls: bool = False) -> None:
        """``needs_tls``: the client can do nothing before it has started TLS."""
        self.agreement: Agreement | None = None
        self.finished = False
        self.starts_tls = False
        self.complaint = ""
        """Why the client was refused, for the server's log if it leaves without an export."""
        self._needs_tls = needs_tls
        self._is_secured = False
        self._refusal = ""
        self._exports = exports
        self._received = bytearray()
        self._skip = 0
        self._count = 0
        self._flags: HandshakeFlag | None = None
        self._structured = False
        self._extended = False
        self._context_export: Export | None = None
        self._contexts: tuple[tuple[int, Context], ...] = ()
        self._options: Mapping[int, Callable[[bytes], bytes]] = {
            Option.EXPORT_NAME: self._export_name,
            Option.ABORT: self._abort,
            Option.LIST: self._list,
            Option.INFO: self._info,
            Option.GO: self._go,
            Option.STARTTLS: self._start_tls,
            Option.STRUCTURED_REPLY: self._structured_reply,
            Option.LIST_META_CONTEXT: self._list_meta_context,
            Option.SET_META_CONTEXT: self._set_meta_context,
            Option.EXTENDED_HEADERS: self._extended_headers,
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
        while not self._is_over and not self.starts_tls and len(replies) < MAX_REPLIES:
            if self._skip:
                skipped = min(self._skip, len(self._received))
                del self._received[:skipped]
                self._skip -= skipped
            answer = self._step()
            if answer is None:
                break
            replies += answer
        return bytes(replies)

    def secured(self, refusal: str = "") -> None:
        """Go on, under TLS. With a ``refusal`` every option is refused with that text."""
        self.starts_tls = False
        self._needs_tls = False
        self._is_secured = True
        self._refusal = refusal
        self.complaint = ""

    @property
    def _is_over(self) -> bool:
        return self.finished or self.agreement is not None

    def _step(self) -> bytes | None:
        if self._flags is None:
            return self._take_client_flags()
        if self._skip or len(self._received) < OPTION.size:
            return None
        magic, option, length = OPTION.unpack_from(self._received)
        self._check_option(magic, option, length)
        if length > MAX_OPTION_DATA:
            self._begin_option()
            self._skip = length
            return reply(
                option, OptionReply.ERR_TOO_BIG, f"option data of {length} bytes is too long".encode()
            )
        if len(self._received) < OPTION.size + length:
            return None
        data = bytes(self._received[OPTION.size : OPTION.size + length])
        self._begin_option()
        del self._received[:length]
        return self._answer(option, data)

    def _check_option(self, magic: int, option: int, length: int) -> None:
        """Raises ProtocolError for what can only be answered by closing the connection."""
        if magic != IHAVEOPT:
            raise ProtocolError(f"an option begins with {magic:#x} instead of IHAVEOPT")
        if option == Option.EXPORT_NAME and length > MAX_STRING:
            raise ProtocolError(f"an export name of {length} bytes is too long")
        if length > MAX_SKIPPED:
            raise ProtocolError(f"an option with {length} bytes of data is too long")
        if option != Option.EXPORT_NAME and not (self._flags or 0) & HandshakeFlag.FIXED_NEWSTYLE:
            raise ProtocolError(f"option {_name(option)} needs the fixed newstyle negotiation")

    def _begin_option(self) -> None:
        """Count an option and remove its header. Raises ProtocolError if they are too many."""
        self._count += 1
        if self._count > MAX_OPTIONS:
            raise ProtocolError(f"more than {MAX_OPTIONS} options, and none has chosen an export")
        del self._received[: OPTION.size]

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
            self._check_access(option)
            if function is None:
                raise OptionError(OptionReply.ERR_UNSUP, f"option {_name(option)} is not supported")
            return function(data)
        except OptionError as error:
            return error.packed(option)

    def _check_access(self, option: int) -> None:
        """Refuse an option before TLS, and every one of a client that TLS has not authorized."""
        before_tls = self._needs_tls and option != Option.STARTTLS
        if option == Option.ABORT or not (before_tls or self._refusal):
            return
        if option == Option.EXPORT_NAME:  # which has no reply that says no
            raise ProtocolError(self._refusal or "it chose an export before TLS, which this server requires")
        if before_tls:
            self.complaint = "it did not start TLS, which this server requires"
            words = "this server requires TLS: connect with TLS credentials"
            raise OptionError(OptionReply.ERR_TLS_REQD, words)
        self.complaint = self._refusal
        raise OptionError(OptionReply.ERR_POLICY, self._refusal)

    # The options by number

    def _export_name(self, data: bytes) -> bytes:
        if self._extended:
            raise ProtocolError("it chose an export by EXPORT_NAME after extended headers, which need GO")
        try:
            export = self._find(data)
        except OptionError as error:
            raise ProtocolError(str(error)) from error
        self._agree(export)
        zeroes = b"" if self._flags and HandshakeFlag.NO_ZEROES in self._flags else _ZEROES_AFTER_EXPORT_NAME
        return EXPORT_NAME_REPLY.pack(export.disk.node.size, self._transmission_flags(export)) + zeroes

    def _abort(self, data: bytes) -> bytes:
        self.finished = True
        return reply(Option.ABORT, OptionReply.ACK)

    def _start_tls(self, data: bytes) -> bytes:
        if self._is_secured:
            raise OptionError(OptionReply.ERR_INVALID, "TLS has been started before")
        if not self._needs_tls:
            self.complaint = "it wants TLS, and this server was started without tls-creds"
            raise OptionError(
                OptionReply.ERR_POLICY,
                "this server has no TLS: start it with tls-creds, or connect without TLS credentials",
            )
        expect_empty(Option.STARTTLS, data)
        if self._received:  # or what somebody put in before TLS would count as the client's
            raise ProtocolError("it sent more before the handshake of TLS")
        self.starts_tls = True
        return reply(Option.STARTTLS, OptionReply.ACK)

    def _list(self, data: bytes) -> bytes:
        expect_empty(Option.LIST, data)
        servers = (
            reply(Option.LIST, OptionReply.SERVER, string(export.name.encode()) + export.description.encode())
            for export in self._exports().values()
        )
        return b"".join(servers) + reply(Option.LIST, OptionReply.ACK)

    def _info(self, data: bytes) -> bytes:
        return self._describe(Option.INFO, data)[1]

    def _go(self, data: bytes) -> bytes:
        export, replies = self._describe(Option.GO, data)
        self._agree(export)
        return replies

    def _structured_reply(self, data: bytes) -> bytes:
        expect_empty(Option.STRUCTURED_REPLY, data)
        if self._extended:
            raise OptionError(OptionReply.ERR_EXT_HEADER_REQD, "extended headers are already negotiated")
        if self._structured:
            raise OptionError(OptionReply.ERR_INVALID, "structured replies are already negotiated")
        self._structured = True
        return reply(Option.STRUCTURED_REPLY, OptionReply.ACK)

    def _extended_headers(self, data: bytes) -> bytes:
        expect_empty(Option.EXTENDED_HEADERS, data)
        if self._extended:
            raise OptionError(OptionReply.ERR_INVALID, "extended headers are already negotiated")
        self._extended = self._structured = True
        return reply(Option.EXTENDED_HEADERS, OptionReply.ACK)

    def _transmission_flags(self, export: Export) -> int:
        status_payload = self._extended and self._context_export is export and bool(self._contexts)
        return export.flags(structured=self._structured, status_payload=status_payload)

    def _list_meta_context(self, data: bytes) -> bytes:
        export, queries = self._context_queries(data)
        return context_replies(Option.LIST_META_CONTEXT, listed(export.contexts, queries))

    def _set_meta_context(self, data: bytes) -> bytes:
        self._context_export = None
        if not self._structured:
            raise OptionError(OptionReply.ERR_INVALID, "metadata contexts need structured replies")
        export, queries = self._context_queries(data)
        self._context_export, self._contexts = export, tuple(selected(export.contexts, queries))
        return context_replies(Option.SET_META_CONTEXT, self._contexts)

    def _describe(self, option: Option, data: bytes) -> tuple[Export, bytes]:
        fields = Fields(data)
        export = self._find(fields.string())
        wanted = {fields.number(2) for _ in range(fields.number(2))}
        fields.end()
        limits = (MINIMUM_BLOCK, PREFERRED_BLOCK, MAX_PAYLOAD)
        infos = [struct.pack(">HQH", Info.EXPORT, export.disk.node.size, self._transmission_flags(export))]
        if Info.NAME in wanted:
            infos.append(struct.pack(">H", Info.NAME) + export.name.encode())
        # These two also unasked, as in QEMU: a client ignores what it does not know.
        if export.description:
            infos.append(struct.pack(">H", Info.DESCRIPTION) + export.description.encode())
        infos.append(struct.pack(">HIII", Info.BLOCK_SIZE, *limits))
        replies = b"".join(reply(option, OptionReply.INFO, info) for info in infos)
        return export, replies + reply(option, OptionReply.ACK)

    def _context_queries(self, data: bytes) -> tuple[Export, set[str]]:
        fields = Fields(data)
        export = self._find(fields.string())
        queries = {fields.string().decode(errors="replace") for _ in range(fields.number(4))}
        fields.end()
        return export, queries

    def _find(self, raw_name: bytes) -> Export:
        """Find an export by name; the empty name means the only export. Raises OptionError."""
        exports = self._exports()
        name = raw_name.decode(errors="replace")
        export = exports.get(name)
        if export is None and not name and len(exports) == 1:
            (export,) = exports.values()
        if export is None:
            known = ", ".join(f"'{known}'" for known in exports) or "none"
            raise OptionError(OptionReply.ERR_UNKNOWN, f"export '{name}' not present; exports here: {known}")
        if export.disk.gate.has_moved:
            raise OptionError(
                OptionReply.ERR_SHUTDOWN, f"the disk of export '{export.name}' has moved to another host"
            )
        return export

    def _agree(self, export: Export) -> None:
        self.agreement = Agreement(
            export=export,
            structured=self._structured,
            contexts=self._contexts if self._context_export is export else (),
            rest=bytes(self._received),
            extended=self._extended,
        )


def _name(option: int) -> str:
    return Option(option).name if option in Option.__members__.values() else str(option)
