"""The thread of one connection: it reads the stream, and hands what arrives to the connection's part."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable

from qmon.errors import QmonError, reason
from qmon.host.pipe_line import PipeLine
from qmon.host.threads import start_thread
from qmon.migration.destination.connections.answered import ANSWERED_TIMEOUT
from qmon.migration.destination.connections.arrival import Arrival
from qmon.migration.destination.connections.channel import Channel
from qmon.migration.destination.connections.part import Part
from qmon.migration.destination.connections.pipe_receiver import PipeReceiver
from qmon.migration.destination.connections.receiver import Receiver
from qmon.migration.destination.connections.replies import Replies
from qmon.migration.destination.side import Side
from qmon.migration.wire.security import WANTS_TLS, begins_tls, to_source
from qmon.migration.wire.stream import DamagedError, StreamError

log = logging.getLogger("qmon.migration")


class Session:
    """One connection. ``on_end(session)`` is called when its thread is about to end."""

    def __init__(
        self,
        side: Side,
        line: socket.socket | PipeLine,
        peer: str,
        on_end: Callable[[Session], None],
        *,
        is_only: bool = False,
    ) -> None:
        """``is_only``: nothing else will come in, so that its failure is that of the migration."""
        if isinstance(line, socket.socket) and line.family != socket.AF_UNIX:  # answers must not be delayed
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = peer
        self.replies = Replies(line, side.options.patience)
        self.is_pipe = isinstance(line, PipeLine)
        self.has_spoken = False
        """Whether a complete offer or question has arrived, so that this is a real source."""
        self._side = side
        self._line = line
        self._on_end = on_end
        self._arrival = Arrival(side, self, is_only=is_only)
        self._parts: list[Part] = [self._arrival]
        self._thread = threading.Thread(target=self._run, name="migration-destination", daemon=True)

    @property
    def _part(self) -> Part:
        return self._parts[-1]

    def become(self, part: Part) -> None:
        """It is known what the connection is for."""
        self._parts.append(part)

    @property
    def is_channel(self) -> bool:
        return isinstance(self._part, Channel)

    def start(self) -> None:
        """Start the thread. Raises OSError if no thread can be started."""
        start_thread(self._thread)

    def end(self) -> None:
        """Make the thread end; after a final answer it first waits a moment for the confirmation."""
        if self._part.leave():
            self._thread.join(ANSWERED_TIMEOUT)
        self.abort()

    def abort(self) -> None:
        """Make the thread end at once."""
        self._part.stop()
        with contextlib.suppress(OSError):  # already disconnected
            self._line.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            receiver = self._open()
            self._receive(receiver)
            self._part.end(receiver.rest)
        except TimeoutError:
            self._fail(self._part.why_late(), is_broken=True)
        except DamagedError as error:
            self._fail(self._part.why_damaged(reason(error)), is_broken=True)
        except StreamError as error:
            self._fail(reason(error), is_broken=True)
        except (QmonError, MemoryError) as error:
            self._fail(reason(error))
        except OSError as error:  # errors of drives are QmonErrors
            self._fail(f"the connection to the source was lost: {reason(error)}", is_broken=True)
        except Exception as error:
            log.exception("the incoming migration failed by an internal error")
            self._fail(f"internal error: {error!r}")
        finally:
            self.replies.line.close()
            self._line.close()
            for part in self._parts:
                part.close()
            self._side.claim.release(self)
            self._side.handover.ended(self.replies)
            self._on_end(self)

    def _fail(self, why: str, *, is_broken: bool = False) -> None:
        """Report an error, here and to the source. Then the next migration can be offered."""
        self._part.fail(why, is_broken=is_broken)

    def _open(self) -> Receiver | PipeReceiver:
        """Return what reads the connection, after the handshake of TLS. Raises QmonError or OSError."""
        if isinstance(self._line, PipeLine):
            return PipeReceiver(self._line)
        security = self._side.options.demand()
        if security is None:
            return Receiver(self._line)
        replies = self.replies
        replies.may_send = False
        if not begins_tls(self._line):
            replies.may_send = True  # it does not expect TLS
            raise QmonError(WANTS_TLS)
        line = to_source(self._line, security, max(0.1, self._arrival.seconds_left))
        replies.line, replies.may_send = line, True
        line.check(security.tls, security.authorize)
        return Receiver(self._line, line)

    def _receive(self, receiver: Receiver | PipeReceiver) -> None:
        """Read until the part has enough. Raises what a part does, and TimeoutError."""
        while not self._part.is_over:
            patience = self._part.patience()
            if patience <= 0:  # data may still trickle in
                raise TimeoutError
            items = receiver.next(patience, self._part.pause)
            if items is None:
                self._check_end()
                return
            for item in items:
                self.has_spoken = True
                self._part.take(item)
            self._part.taken()

    def _check_end(self) -> None:
        """Raises StreamError if the stream must not end here."""
        if isinstance(self._line, PipeLine) and (why := self._line.failure(ANSWERED_TIMEOUT)):
            raise StreamError(why)
        if (why := self._part.why_short()) is not None:
            raise DamagedError(why)
