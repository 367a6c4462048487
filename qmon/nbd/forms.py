"""The header of a request, in the two forms that a handshake can choose between.

doc/proto.md, "Request message"; the extended form is in its branch extension-ext-header.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qmon.nbd.constants import (
    EXTENDED_REQUEST,
    EXTENDED_REQUEST_MAGIC,
    REQUEST,
    REQUEST_MAGIC,
    Command,
    CommandFlag,
)

_WRITE = int(Command.WRITE)
_PAYLOAD_LEN = int(CommandFlag.PAYLOAD_LEN)


@dataclass(frozen=True, slots=True)
class RequestForm:
    """One form. ``unpack_from`` returns (magic, flags, command, cookie, offset, length) for either."""

    size: int
    """The bytes of a header."""
    magic: int
    payload_flag: int
    """The flag with which any command is followed by data; 0: there is none."""
    unpack_from: Callable[..., tuple[Any, ...]]

    def payload(self, flags: int, command: int, length: int) -> int:
        """Return how many bytes of data follow the header: of a write, and with the flag PAYLOAD_LEN.

        Extended writes must have the flag. QEMU 10's client leaves it out, and its server takes them so.
        """
        return length if command == _WRITE or flags & self.payload_flag else 0


def _form(layout: struct.Struct, magic: int, payload_flag: int) -> RequestForm:
    return RequestForm(layout.size, magic, payload_flag, layout.unpack_from)


COMPACT_FORM = _form(REQUEST, REQUEST_MAGIC, 0)
EXTENDED_FORM = _form(EXTENDED_REQUEST, EXTENDED_REQUEST_MAGIC, _PAYLOAD_LEN)
