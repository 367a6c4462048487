"""The part of the telnet protocol (RFC 854) that text lines need. Pure."""

from __future__ import annotations

import enum

IAC = 0xFF
SE, BREAK, SB, WILL, DONT = 0xF0, 0xF3, 0xFA, 0xFB, 0xFE

GREETING = bytes((IAC, 0xFB, 1, IAC, 0xFB, 3, IAC, 0xFB, 0, IAC, 0xFD, 0))
"""What a server sends first: WILL echo, WILL suppress go-ahead, WILL binary, DO binary."""


class _State(enum.Enum):
    TEXT = enum.auto()
    COMMAND = enum.auto()
    """After an IAC."""
    OPTION = enum.auto()
    """After WILL, WONT, DO or DONT."""
    SUBNEGOTIATION = enum.auto()
    SUBNEGOTIATION_COMMAND = enum.auto()


class TelnetDecoder:
    """Extracts the text from what a client sends, in pieces of any size; ``breaks`` counts BREAK commands."""

    def __init__(self) -> None:
        self.breaks = 0
        self._state = _State.TEXT

    def feed(self, data: bytes) -> bytes:
        """Return the text in ``data`` without telnet commands."""
        if self._state is _State.TEXT and IAC not in data:
            return data
        text = bytearray()
        for byte in data:
            match self._state:
                case _State.TEXT:
                    if byte == IAC:
                        self._state = _State.COMMAND
                    else:
                        text.append(byte)
                case _State.COMMAND:
                    self._command(byte, text)
                case _State.OPTION:
                    self._state = _State.TEXT
                case _State.SUBNEGOTIATION:
                    if byte == IAC:
                        self._state = _State.SUBNEGOTIATION_COMMAND
                case _State.SUBNEGOTIATION_COMMAND:
                    self._state = _State.TEXT if byte == SE else _State.SUBNEGOTIATION
        return bytes(text)

    def _command(self, byte: int, text: bytearray) -> None:
        self._state = _State.TEXT
        if byte == IAC:
            text.append(IAC)
        elif byte == BREAK:
            self.breaks += 1
        elif byte == SB:
            self._state = _State.SUBNEGOTIATION
        elif WILL <= byte <= DONT:
            self._state = _State.OPTION


def encode(data: bytes) -> bytes:
    """Return text as it is sent: each IAC byte is doubled."""
    return data.replace(b"\xff", b"\xff\xff")
