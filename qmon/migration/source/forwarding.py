"""What a source does about its clients when the disks have moved: it turns them away, or works on for them.

It forwards their requests to the destination, by the migration's own connection, until the last client has
left or the connection ends. A client that is turned away gets ESHUTDOWN, and connects to the destination.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from qmon.block.inactive import InactiveNode
from qmon.errors import QmonError, reason
from qmon.migration.drive import MigratingDrive
from qmon.migration.source.exchange import Exchange
from qmon.migration.source.forward_node import ForwardNode
from qmon.migration.source.link import Link
from qmon.migration.wire.forward import Kind, OpenedDrive, opening

log = logging.getLogger("qmon.migration")

DRAIN_SECONDS = 2.0
"""How long an orderly end waits for the replies to what is on its way."""

LEFT = "the last client has left"


class Forwarding:
    """For the migration's thread, except where it says otherwise.

    ``clients`` counts the clients of the drives' exports, on any thread; None: nothing is to be forwarded.
    ``on_end`` is called on a data thread when forwarding has ended, with the reason.
    """

    def __init__(
        self,
        drives: Sequence[MigratingDrive],
        peer: str,
        clients: Callable[[], int] | None,
        on_end: Callable[[str], None],
    ) -> None:
        self._drives = drives
        self._peer = peer
        self._clients = clients
        self._on_end = on_end
        self._is_intended = False
        self._exchange: Exchange | None = None
        self._is_open = self._is_over = False

    @property
    def is_intended(self) -> bool:
        """Whether requests are to be forwarded after the handover."""
        return self._is_intended

    @property
    def is_active(self) -> bool:
        """Whether requests are forwarded now. For any thread."""
        return self._is_open and not self._is_over

    @property
    def requests(self) -> tuple[int, int]:
        """How many requests were forwarded, and how many are on their way. For any thread."""
        exchange = self._exchange
        return (0, 0) if exchange is None else (exchange.done, exchange.in_flight)

    def decide(self, *, may: bool) -> None:
        """Decide whether to forward. ``may``: the destination takes requests."""
        self._is_intended = may and self._clients is not None and self._clients() > 0

    def turn_away(self) -> None:
        """Refuse all requests from now on, unless they are to be forwarded."""
        if not self._is_intended:
            self._shut()

    def _shut(self) -> None:
        for drive in self._drives:
            drive.gate.shut()

    def give_up_unless_active(self) -> None:
        """If it is not forwarding by now, refuse all requests: there was an error."""
        if self._exchange is None:
            self._is_intended = False
            self._shut()

    def begin(self, link: Link) -> None:
        """Forward what waits at the gates, and what comes. An error is logged, and ends it."""
        if not self._is_intended:
            return
        assert self._clients is not None
        count = self._clients()
        try:
            exchange = Exchange(link.hand_over(), self._ended)
            drives = [OpenedDrive(drive.id, drive.size) for drive in self._drives]
            exchange.tell(Kind.OPEN, number=count, body=opening(drives))
            self._exchange = exchange
            exchange.start()
        except (OSError, QmonError, MemoryError) as error:
            self._exchange = None
            self._is_over = True
            self._shut()
            log.error("migration: clients can't be forwarded: %s", reason(error))
            self._on_end(reason(error))
            return
        for number, drive in enumerate(self._drives):
            node = ForwardNode(exchange, number, drive.size, read_only=drive.read_only)
            drive.stack.put(node)
            drive.gate.forward()
        self._is_open = True
        log.info(
            "migration: the requests of %d client%s are forwarded to %s until they leave",
            count,
            "" if count == 1 else "s",
            self._peer,
        )

    def count(self, clients: int) -> None:
        """Tell the destination how many clients there are. Blocks; for any thread."""
        if self._exchange is not None and self.is_active:
            try:
                self._exchange.tell(Kind.CLIENTS, number=clients)
            except OSError as error:
                log.debug("the destination can't be told of its clients: %s", reason(error))

    def stop(self, why: str) -> None:
        """End it in good order: new requests are refused, those on their way may finish. Blocks.

        For any thread; does nothing if it has ended.
        """
        if self._exchange is not None and self.is_active:
            self._shut()
            self._exchange.stop(why, DRAIN_SECONDS)

    def _ended(self, why: str) -> None:
        """The connection has ended. On its reader's thread, or one that sends."""
        self._is_over = True
        self._shut()
        for drive in self._drives:
            if isinstance(drive.stack.top, ForwardNode):
                drive.stack.put(InactiveNode(drive.size, drive.read_only))
        self._on_end(why)
