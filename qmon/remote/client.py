"""qemu.qmp's client, quiet: its log and its tasks' errors go nowhere, because a connection reports them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from qemu.qmp import Message, QMPClient

from qmon.errors import CommandError

_log = logging.getLogger("qemu.qmp")
_log.addHandler(logging.NullHandler())
_log.propagate = False

READ_BYTES_MAX = 32 << 20
"""The largest message that is read. QEMU's schema has 210 KB; a block graph of a thousand nodes some MB."""

_UNSENDABLE = re.compile(
    "[\0\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
)
"""Characters that QEMU's JSON reader refuses. It answers such a command without its id."""


class _Client(QMPClient):
    """Passes over a second greeting: QEMU sends one to a client that connects while it starts.

    Reads the messages of ``-qmp-pretty``, too, which have several lines.
    """

    async def _readline(self) -> bytes:
        line = await super()._readline()
        if line.rstrip() != b"{":
            return line
        lines, size = [line], 0
        while not lines[-1].startswith(b"}"):
            lines.append(await super()._readline())
            size += len(lines[-1])
            if size > READ_BYTES_MAX:
                raise ValueError(f"a message is longer than {READ_BYTES_MAX >> 20} MiB")
        return b"".join(lines)

    async def _do_recv(self) -> Message:
        message = await super()._do_recv()
        while "QMP" in message and self.greeting is not None:
            message = await super()._do_recv()
        return message


def make_client(hear: Callable[[Message], None]) -> QMPClient:
    """Return a client that is not connected yet and calls ``hear`` with each event, on the loop, in order.

    It negotiates ``oob`` where that is offered.
    """
    client = _Client(readbuflen=READ_BYTES_MAX)
    loop = asyncio.get_running_loop()

    def take(message: Message) -> bool:
        loop.call_soon(hear, message)
        return False  # the listener would keep all events for ever

    client.events.event_filter = take
    return client


def check_sendable(command: str, arguments: Mapping[str, Any]) -> None:
    """Raises CommandError if a text can't be sent: the server would not answer it as this command's error."""
    for text in (command, *_texts(arguments)):
        found = _UNSENDABLE.search(text)
        if found is not None:
            what = (
                "a byte that is not UTF-8" if "\ud800" <= found[0] <= "\udfff" else f"U+{ord(found[0]):04X}"
            )
            raise CommandError(f"{command}: the text has {what}, which QMP can't carry")


def _texts(value: Any) -> list[str]:
    found: list[str] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, Mapping):
            waiting += [*each, *each.values()]
        elif isinstance(each, list | tuple):
            waiting += each
    return found
