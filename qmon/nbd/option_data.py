"""The data of options and of their replies: reads fields, packs replies (doc/proto.md, "Option types")."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from qmon.nbd.constants import MAX_STRING, OPTION_REPLY, OPTION_REPLY_MAGIC, Option, OptionReply
from qmon.nbd.contexts import Context


class OptionError(Exception):
    """An option is refused; the client may send another one."""

    def __init__(self, reply: OptionReply, text: str) -> None:
        super().__init__(text)
        self.reply = reply

    def packed(self, option: int) -> bytes:
        """Return the reply to the option."""
        return reply(option, self.reply, _cut(str(self)))


class Fields:
    """Reads the fields of an option's data in order. Raises OptionError with ERR_INVALID for wrong data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def _take(self, length: int) -> bytes:
        taken = self._data[self._position : self._position + length]
        if len(taken) < length:
            raise OptionError(OptionReply.ERR_INVALID, "option data ends too early")
        self._position += length
        return taken

    def number(self, size: int) -> int:
        """Return the next number of ``size`` bytes."""
        return int.from_bytes(self._take(size), "big")

    def string(self) -> bytes:
        """Return the next string, which follows its length of 32 bits."""
        length = self.number(4)
        if length > MAX_STRING:
            raise OptionError(OptionReply.ERR_INVALID, f"a string of {length} bytes is too long")
        return self._take(length)

    def end(self) -> None:
        """Nothing may follow."""
        if self._position < len(self._data):
            raise OptionError(OptionReply.ERR_INVALID, "option data is longer than its fields")


def expect_empty(option: Option, data: bytes) -> None:
    """Raises OptionError with ERR_INVALID if there is any data."""
    if data:
        raise OptionError(OptionReply.ERR_INVALID, f"option {option.name} takes no data")


def string(value: bytes) -> bytes:
    """Return a string behind its length of 32 bits."""
    return struct.pack(">I", len(value)) + value


def reply(option: int, kind: OptionReply, data: bytes = b"") -> bytes:
    """Return one reply to an option."""
    return OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def context_replies(option: Option, contexts: Iterable[tuple[int, Context]]) -> bytes:
    """Return the replies that name metadata contexts with their ids, and ACK."""
    found = (
        reply(option, OptionReply.META_CONTEXT, struct.pack(">I", id) + each.name.encode())
        for id, each in contexts
    )
    return b"".join(found) + reply(option, OptionReply.ACK)


def _cut(text: str) -> bytes:
    """Return at most MAX_STRING bytes of UTF-8, with no character cut in two."""
    return text.encode()[:MAX_STRING].decode(errors="ignore").encode()
