"""The connections to one export, and what happens when one is lost.

A server that says ``multi-conn`` gets more than one connection when many requests are on their way. A lost
connection is made again in the background. With a ``reconnect_delay`` requests wait that long for it, and
those that were on their way are sent again, as by QEMU (block/nbd.c); without one they fail with EIO.

Each request can be repeated: it reads, or gives a range fixed contents. Two dangers remain, as with QEMU. A
server that goes on after the connection was lost may do an old request after a newer one of the same range.
And a server that starts again without what it had not flushed loses acknowledged writes; a later flush
succeeds.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from qmon.errors import QmonError, reason
from qmon.host.threads import start_thread
from qmon.nbd.client_handshake import Agreed
from qmon.nbd.constants import Command, Error, TransmissionFlag
from qmon.nbd.link import Link, LinkLostError, Request

MAX_LINKS = 4
"""Connections to one export; nbdcopy uses as many."""

SHARE_FROM = 4
"""Requests on their way on each connection, whose threads wait for them, before another one is made."""

FEW = 32
"""As many on a connection leave the others alone, if they were begun together."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0
"""Between two attempts to connect again. The pause doubles."""

_NEEDED = (
    TransmissionFlag.SEND_FLUSH
    | TransmissionFlag.SEND_FUA
    | TransmissionFlag.SEND_TRIM
    | TransmissionFlag.SEND_WRITE_ZEROES
)

_ERRNO: Mapping[int, int] = {
    Error.EPERM: errno.EPERM,
    Error.EIO: errno.EIO,
    Error.ENOMEM: errno.ENOMEM,
    Error.EINVAL: errno.EINVAL,
    Error.ENOSPC: errno.ENOSPC,
    Error.EOVERFLOW: errno.EOVERFLOW,
    Error.ENOTSUP: errno.ENOTSUP,
    Error.ESHUTDOWN: errno.ESHUTDOWN,
}
"""The protocol's errors on this host; others are EINVAL ("Error values")."""

log = logging.getLogger("qmon.nbd")


class Links:
    """The connections to an export; at least one when it is made. For any thread."""

    def __init__(self, name: str, connect: Callable[[], Link], reconnect_delay: int) -> None:
        """``connect`` makes a connection; it raises QmonError or OSError, and so does this."""
        self.name = name
        self._connect = connect
        self._delay = reconnect_delay
        self._changed = threading.Condition()
        self._links = [connect()]
        self.agreed = self._links[0].agreed
        self._lost_at = 0.0
        self._is_connecting = False
        self._is_full = False
        """Whether an additional connection could not be made."""
        self._is_closed = False
        self._told: set[int] = set()

    @property
    def can_share(self) -> bool:
        """Whether several connections see each other's flushed writes."""
        return TransmissionFlag.CAN_MULTI_CONN in self.agreed.flags

    def ask(self, request: Request) -> None:
        """Have a request done. Raises OSError with the server's error, or EIO without a connection."""
        while True:
            link = self._choose()
            try:
                link.ask(request)
                break
            except LinkLostError as error:
                self._drop(link, error)
                if not self._delay or self._is_closed:
                    raise _io_error() from error
            request.again()
        if request.error:
            raise self._failure(request)

    @property
    def can_start(self) -> bool:
        """Whether ``start`` may begin requests now."""
        links = self._links
        return bool(links) and links[0].can_begin

    def start(self, requests: Sequence[Request]) -> bool:
        """Begin the requests, which are for transfers; return False if there is no connection for them."""
        link = self._choose_to_begin()
        if link is None or not link.can_begin:
            return False
        for request in requests:
            assert request.transfer is not None
            request.on_end = self._ended
            request.transfer.carrier = link
        return link.begin(requests)

    def _choose_to_begin(self) -> Link | None:
        """Return the first connection with few requests, else the one with the fewest; None without one.

        So a single client's requests go over one connection, and many of them into one call of the system.
        """
        with self._changed:
            for link in self._links:
                if link.waiting < FEW:
                    return link
            if not self._links:
                return None
            self._want_another()
            return min(self._links, key=lambda each: each.waiting)

    def _ended(self, request: Request) -> None:
        """A request that was begun has ended. For any thread."""
        transfer = request.transfer
        assert transfer is not None
        link = transfer.carrier
        if request.is_done:
            transfer.end(self._failure(request) if request.error else None)
            return
        assert isinstance(link, Link)
        self._drop(link, link.why_lost())
        if self._delay and not self._is_closed:
            transfer.end(is_lost=True)
        else:
            transfer.end(_io_error())

    def interrupt(self) -> None:
        """End all connections, and the waiting for them: requests fail at once, now and later."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            links = list(self._links)
        for link in links:
            link.interrupt()

    def close(self) -> None:
        """Close the connections, when no request is on its way."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            links, self._links = self._links, []
        for link in links:
            link.close()

    def _choose(self) -> Link:
        """Return the connection with the fewest requests; wait for one as long as allowed. Raises OSError."""
        links = self._links
        if len(links) == 1 and not self.can_share:
            return links[0]
        with self._changed:
            while not self._links:
                left = self._lost_at + self._delay - time.monotonic()
                if self._is_closed or left <= 0 or not self._delay:
                    raise _io_error()
                self._changed.wait(left)
            link = min(self._links, key=lambda each: each.waiting)
            if link.waiting >= SHARE_FROM:
                self._want_another()
        return link

    def _want_another(self) -> None:
        """Make one more connection in the background, if that is possible. The lock is held."""
        if self.can_share and not self._is_full and len(self._links) < MAX_LINKS:
            self._begin_connecting()

    def _drop(self, link: Link, error: LinkLostError) -> None:
        with self._changed:
            if link not in self._links:
                return
            self._links.remove(link)
            if self._is_closed:
                return
            log.warning("NBD export '%s': %s", self.name, error)
            if not self._links:
                self._lost_at = time.monotonic()
                self._begin_connecting()
        link.close()

    def _begin_connecting(self) -> None:
        """Make one more connection in the background. The lock is held."""
        if self._is_connecting:
            return
        thread = threading.Thread(target=self._connecting, name="nbd-connect", daemon=True)
        try:
            start_thread(thread)
        except OSError as error:
            log.warning("NBD export '%s': can't connect: %s", self.name, reason(error))
        else:
            self._is_connecting = True

    def _connecting(self) -> None:
        """Connect, again and again if there is no connection at all."""
        pause = FIRST_PAUSE_SECONDS
        told: str | None = None
        while not self._is_closed:
            why = self._connect_once()
            with self._changed:
                if self._links or self._is_closed:
                    self._is_connecting = False
                    self._is_full = why is not None  # the server does not want one more
                    return
                if why is not None and why != told:
                    log.warning("NBD export '%s': can't connect again: %s; retrying", self.name, why)
                told = why
                self._changed.wait_for(lambda: self._is_closed, pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _connect_once(self) -> str | None:
        """Add a connection; return why there is none."""
        try:
            link = self._connect()
        except (OSError, QmonError) as error:
            return reason(error)
        why = _difference(self.agreed, link.agreed)
        with self._changed:
            if why is None and not self._is_closed:
                if not self._links:
                    log.info("NBD export '%s': connected again", self.name)
                self._links.append(link)
                self._changed.notify_all()
                return None
        link.close()
        return why

    def _failure(self, request: Request) -> OSError:
        """Return the error of a request; log what the server says, once for each error."""
        code = _ERRNO.get(request.error, errno.EINVAL)
        if request.error not in self._told:
            self._told.add(request.error)
            what = f"{Command(request.command).name} at {request.offset} of {request.length} bytes"
            log.warning("NBD export '%s': %s: %s", self.name, what, request.text or os.strerror(code))
        return OSError(code, os.strerror(code))


def _difference(before: Agreed, now: Agreed) -> str | None:
    """Say why an export can't be used in the place of what it was."""
    if now.size != before.size:
        return f"the export has {now.size} bytes now, not {before.size}"
    if TransmissionFlag.READ_ONLY in now.flags and TransmissionFlag.READ_ONLY not in before.flags:
        return "the export is read-only now"
    if before.flags & _NEEDED & ~now.flags:
        return "the server knows fewer commands now"
    if _form(now) != _form(before):
        return "the server has another block size or other replies now"
    if now.maximum_payload < before.maximum_payload or before.contexts.keys() - now.contexts.keys():
        return "the server allows less now"
    return None


def _form(agreed: Agreed) -> tuple[int, bool, bool]:
    return agreed.minimum_block, agreed.structured, agreed.extended


def _io_error() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))
