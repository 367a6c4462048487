"""The telnet protocol (RFC 854), as far as a line of text over it needs it. Pure."""

from __future__ import annotations

import enum

IAC = 0xFF
SE, BREAK, SB, WILL, DONT = 0xF0, 0xF3, 0xFA, 0xFB, 0xFE

GREETING = bytes((IAC, 0xFB, 1, IAC, 0xFB, 3, IAC, 0xFB, 0, IAC, 0xFD, 0))
"""What a server sends first: WILL echo, WILL suppress go-ahead, WILL binary, DO binary."""


class _State(enum.Enum):
    TEXT = enum.auto()
    COMMAND = enum.auto()
    """Behind an IAC."""
    OPTION = enum.auto()
    """Behind WILL, WONT, DO or DONT."""
    SUBNEGOTIATION = enum.auto()
    SUBNEGOTIATION_COMMAND = enum.auto()


class TelnetDecoder:
    """Takes what a client sends, in pieces of any size, and leaves the text; ``breaks`` counts its BREAKs."""

    def __init__(self) -> None:
        self.breaks = 0
        self._state = _State.TEXT

    def feed(self, data: bytes) -> bytes:
        """The text in ``data``, commands taken out."""
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
    """Text as it is sent: an IAC in it is doubled."""
    return data.replace(b"\xff", b"\xff\xff")
