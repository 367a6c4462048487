"""The source's connections to the destination's console."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

from qmon.errors import CommandError, ConnectionLostError, QmonError, reason
from qmon.host.sockets import connect
from qmon.notation.address import Address
from qmon.notation.plain_text import one_line
from qmon.remote.migration.wire.channel import Channel, open_channel
from qmon.remote.migration.wire.door import make_lasting
from qmon.remote.migration.wire.first_line import CONTROL, open_connection
from qmon.remote.secured import Secure

CONNECT_SECONDS = 10.0

Data = Mapping[str, Any]


class Peer:
    """The destination's console at an address, for one migration."""

    def __init__(
        self,
        uri: str,
        address: Address,
        migration: str,
        hear: Callable[[str, Data], None],
        on_loss: Callable[[str], None],
        secure: Secure | None = None,
    ) -> None:
        """``on_loss`` is called with the reason when the connection between the consoles is lost.

        ``secure`` begins TLS on each connection.
        """
        self.uri = uri
        self.migration = migration
        self._address = address
        self._hear = hear
        self._on_loss = on_loss
        self._secure = secure
        self._channel: Channel | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        return self._channel is not None and not self._channel.lost.is_set()

    @property
    def has_tls(self) -> bool:
        """Whether all that goes to the destination's console is under TLS."""
        return self._secure is not None

    async def connect(self) -> None:
        """Open the connection between the consoles, in the place of a lost one. Raises QmonError."""
        sock = await self.open(CONTROL)
        self._channel = await open_channel(sock, self._answer, self._hear)
        self._watching = asyncio.create_task(self._watch(self._channel))

    async def open(self, kind: str, export: str = "") -> socket.socket:
        """Return a connection whose first line is answered (``first_line.KINDS``). Raises QmonError."""
        try:
            sock = await asyncio.to_thread(connect, self._address, CONNECT_SECONDS)
        except OSError as error:
            raise QmonError(f"Failed to connect to '{self._address}': {reason(error)}") from error
        try:
            make_lasting(sock)
            if self._secure is not None:
                sock = (await asyncio.to_thread(self._secure, sock)).local
            await open_connection(sock, kind, self.migration, export)
        except TimeoutError as error:
            sock.close()
            raise QmonError(f"{self.uri}: what listens there is no console that waits for a guest") from error
        except (QmonError, OSError) as error:
            sock.close()
            raise QmonError(f"{self.uri}: {reason(error)}") from error
        except BaseException:
            sock.close()
            raise
        return sock

    async def ask(self, command: str, arguments: Data | None = None) -> Any:
        """Send a request; return its answer. Raises CommandError, ConnectionLostError."""
        if self._channel is None:
            raise ConnectionLostError("there is no connection to the destination")
        return await self._channel.ask(command, arguments)

    def tell(self, event: str, data: Data) -> None:
        """Send news, if there is a connection."""
        if self._channel is not None:
            self._channel.tell(event, data)

    async def close(self, why: str) -> None:
        """End the connection; idempotent."""
        channel, self._channel = self._channel, None
        if self._watching is not None:
            self._watching.cancel()
        if channel is not None:
            await channel.close(why)

    async def _watch(self, channel: Channel) -> None:
        await channel.lost.wait()
        if self._channel is channel:
            self._on_loss(channel.why)

    async def _answer(self, command: str, arguments: Data) -> Any:
        raise CommandError(f"the source's console does not know '{one_line(command)}'")
