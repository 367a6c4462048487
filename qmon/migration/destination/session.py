"""One connection to a destination: checks what arrives, applies it in order, and answers."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID

from qmon.block.extents import visible_extents
from qmon.block.node import Kind as ExtentKind
from qmon.errors import QmonError, naming, reason
from qmon.host.logs import TOLD_BY_EVENT
from qmon.host.threads import start_thread
from qmon.migration.compare import Seen, answer_question
from qmon.migration.destination.acceptance import Machine, inspect, prepare_overlays, reading, travelling
from qmon.migration.destination.receiver import Receiver
from qmon.migration.destination.trial import LINE_SECONDS, Trial
from qmon.migration.drive import MigratingDrive, flushing
from qmon.migration.patience import Patience
from qmon.migration.progress import Progress, RateMeter
from qmon.migration.wire import answers
from qmon.migration.wire.fit import check_fit
from qmon.migration.wire.offer import BackingOffer, DriveOffer, Mode, Offer
from qmon.migration.wire.reader import Item
from qmon.migration.wire.stream import Go, Heard, Kind, Record, StreamError

log = logging.getLogger("qmon.migration")


def no_hello(patience: Patience) -> str:
    """Return the reason for closing a connection that has sent no offer or question in time."""
    return f"no migration was offered within {patience.hello:g} s"


ANSWERED_TIMEOUT = 2
"""Seconds to wait for the source's confirmation of the final answer."""

TELL_APPLIED_AFTER = 4 << 20
"""Bytes after which the source is told what is applied, if the stream has no pause before."""

TELL_APPLIED_RECORDS = 4 << 10
"""The same for the number of records: those of zeros have no bytes."""


def opening(drive: MigratingDrive) -> AbstractContextManager[None]:
    """Turn an OSError of opening an image into a QmonError, which is also sent to the source."""
    return naming(f"drive '{drive.id}' can't be opened at the destination")


def flushing_here(drive: MigratingDrive) -> AbstractContextManager[None]:
    """Turn an OSError of a flush into a QmonError, which is also sent to the source."""
    return flushing(drive, where=" at the destination")


def _writing(drive: MigratingDrive, record: Record) -> AbstractContextManager[None]:
    what = f"write of {record.length} bytes at {record.offset}"
    return naming(f"drive '{drive.id}': {what} failed at the destination")


def _describe(drive: MigratingDrive) -> DriveOffer:
    size = drive.backing_size
    return DriveOffer(drive.id, drive.size, drive.read_only, None if size is None else BackingOffer(size))


class Reception(Machine, Protocol):
    """The part of ``Incoming`` that a session calls; see there."""

    patience: Patience

    def check_free(self) -> None:
        """Raises OfferError if no migration can be accepted now."""

    def claim(
        self, session: Session, migration_id: UUID, mode: Mode, drives: Sequence[MigratingDrive]
    ) -> Progress:
        """Give the migration to this session. Raises OfferError if another session has it."""

    def begin_trial(self, trial: Trial) -> None:
        """Note a trial. Raises OfferError if there is another one, or no migration can be accepted now."""

    def end_trial(self, trial: Trial) -> None:
        """Forget a trial."""

    def agree(self) -> None:
        """Accept the offer: take the locks. Raises QmonError."""

    def note_seen(self, drive: MigratingDrive, seen: Seen) -> None:
        """Note what a comparison has found of a shared drive."""

    def finish(self, session: Session, records: int, digest: int, resume: bool) -> None:
        """All data has arrived. Raises OSError or QmonError."""

    def go_back(self, session: Session) -> None:
        """The source has taken back FINISH. Raises StreamError, OSError or QmonError."""

    def go(self, session: Session, order: Go) -> bool:
        """Obey GO; return whether the source was told that this side runs. Raises as ``go_back``."""

    def heard(self, migration_id: UUID) -> None:
        """The source knows that this side runs. Raises JournalError."""

    def lost(self, session: Session, why: str, left: str) -> bool:
        """The session has ended; return whether its migration has failed."""

    def ended(self, session: Session) -> None:
        """The session's thread is about to end."""


class Session:
    """One connection: a thread that reads the stream and applies it."""

    def __init__(self, incoming: Reception, sock: socket.socket, peer: str) -> None:
        if sock.family != socket.AF_UNIX:  # answers are small and must not be delayed
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming = incoming
        self._patience = incoming.patience
        self._sock = sock
        self._peer = peer
        self._receiver = Receiver(sock)
        self._offer: Offer | None = None
        self._trial: Trial | None = None
        self._drives: list[MigratingDrive] = []
        self._writable: list[bool] = []
        self._progress = Progress()
        self._meter = RateMeter()
        self._finish: tuple[int, int, bool] | None = None
        self._applied = self._told = -1
        self._told_at = 0
        self._wrote = False
        self._has_overlays = False
        self._compared: set[int] = set()
        """Drives, by index in the offer, that the source has compared."""
        self._shown = time.monotonic()
        self._done = False
        """Whether the connection is finished or has failed; further data changes nothing."""
        self._may_hear = False
        """Whether the source was told that this side runs, and may confirm it."""
        self._deadline = time.monotonic() + self._patience.hello
        """The time by which the source must have sent its offer or question, or confirmed the answer."""
        self.has_spoken = False
        """Whether a complete offer or question has arrived, so that this is a real source."""
        self._thread = threading.Thread(target=self._run, name="migration-destination", daemon=True)

    def start(self) -> None:
        """Start the thread. Raises OSError if no thread can be started."""
        start_thread(self._thread)

    def end(self) -> None:
        """Make the thread end; after a final answer it first waits a moment for the confirmation."""
        if self._done:
            self._thread.join(ANSWERED_TIMEOUT)
        self.abort()

    def abort(self) -> None:
        """Make the thread end at once."""
        if self._trial is not None:
            self._trial.stop("the connection was closed at the destination")
        with contextlib.suppress(OSError):  # already disconnected
            self._sock.shutdown(socket.SHUT_RDWR)

    def answer(self, message: bytes) -> None:
        """Send a message to the source. Raises OSError."""
        self._sock.sendall(message)

    def join(self) -> None:
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._receive()
        except TimeoutError:
            self._fail(self._why_late())
        except (QmonError, MemoryError) as error:
            self._fail(reason(error))
        except OSError as error:  # errors of drives are QmonErrors
            self._fail(f"the connection to the source was lost: {reason(error)}")
        except Exception as error:
            log.exception("the incoming migration failed by an internal error")
            self._fail(f"internal error: {error!r}")
        finally:
            self._sock.close()
            if self._trial is not None:
                self._incoming.end_trial(self._trial)
            self._incoming.ended(self)

    def _receive(self) -> None:
        while not self._done or self._may_hear:
            is_under_way = self._offer is not None and not self._done
            patience = self._patience.silence if is_under_way else self._deadline - time.monotonic()
            if patience <= 0:  # data may still trickle in
                raise TimeoutError
            items = self._receiver.next(patience, self._tell_applied)
            if items is None:
                if self._trial is not None:
                    return  # the source has measured enough
                raise StreamError(self._why_short())
            for item in items:
                self._take(item)
            if (
                self._progress.transferred - self._told_at >= TELL_APPLIED_AFTER
                or self._applied - self._told >= TELL_APPLIED_RECORDS
            ):
                self._tell_applied()

    def _why_late(self) -> str:
        if self._trial is not None:
            return f"the trial has not ended within {LINE_SECONDS} s"
        if self._offer is None:
            return no_hello(self._patience)
        return f"no data for {self._patience.silence} s"

    def _why_short(self) -> str:
        if self._offer is None:
            return "the connection ended before a migration was offered"
        return "the source closed the connection"

    def _take(self, item: Item) -> None:
        self.has_spoken = True
        match item:
            case Record() if self._trial is not None:
                self._trial.take(item)
                self._progress.transferred += len(item.payload)
                self._applied = item.sequence
            case Record(kind=Kind.TRIAL) if self._offer is None:
                self._begin_trial(item)
            case Record() if self._offer is None:
                self._greet(item)
            case Record():
                self._apply(item)
                self._applied = item.sequence
            case Go():
                self._done = True
                self._deadline = time.monotonic() + ANSWERED_TIMEOUT
                self._may_hear = self._incoming.go(self, item)
            case Heard():
                self._may_hear = False
                self._incoming.heard(UUID(bytes=item.migration_id))

    def _greet(self, record: Record) -> None:
        if record.kind is not Kind.HELLO:
            raise StreamError(f"not a valid migration stream: {record.kind.name} came before HELLO")
        offer = Offer.decode(bytes(record.payload))
        self._incoming.check_free()
        inspect(self._incoming, offer, self._show_life)
        drives = self._incoming.drives
        for drive in drives:
            with opening(drive):
                drive.probe()
        here = [_describe(drive) for drive in drives]  # they may have changed since
        check_fit(offer, here, self._incoming.uuid, self._incoming.empty)
        by_id = {drive.id: drive for drive in drives}
        self._drives = [by_id[drive.id] for drive in offer.drives]
        self._writable = [
            not offered.read_only and not drive.read_only and offer.mode is not Mode.SHARED
            for drive, offered in zip(self._drives, offer.drives, strict=True)
        ]
        self._progress = self._incoming.claim(self, offer.id, offer.mode, self._drives)
        self._offer = offer
        log.info("incoming migration %s from %s", offer.id, self._peer)
        self._progress.total = sum(
            drive.size
            for drive, own, offered in zip(self._drives, self._writable, offer.drives, strict=True)
            if own and offered.backing is None
        )
        self._progress.remaining = self._progress.total
        self._incoming.agree()
        self._limit_answers()
        self._has_overlays = any(drive.backing is not None for drive in offer.drives)
        if offer.mode is not Mode.SHARED:
            self._settle_read_only(offer)
        prepare_overlays(self._drives, offer, self._incoming.leftovers, self._show_life)
        for index, own in enumerate(self._writable):
            if own and offer.drives[index].backing is None:
                for message in answers.zeros(index, self._zero_ranges(self._drives[index])):
                    self._sock.sendall(message)
        self._progress.arrived = {
            drive.id: 0 for drive, own in zip(self._drives, self._writable, strict=True) if own
        }
        self._progress.agreed = time.monotonic()
        self._sock.sendall(answers.encode(answers.Type.AGREED))

    def _begin_trial(self, record: Record) -> None:
        """Answer a trial; what follows is for it. Raises QmonError, OSError."""
        trial = Trial(self._incoming, Offer.decode(bytes(record.payload)), self.answer, self._show_life)
        self._incoming.begin_trial(trial)
        self._trial = trial
        self._limit_answers()
        trial.report(self._peer)
        self._deadline = time.monotonic() + LINE_SECONDS

    def _limit_answers(self) -> None:
        """A source that does not read answers must not block this thread for ever."""
        timeout = struct.pack("ll", self._patience.silence, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)

    def _settle_read_only(self, offer: Offer) -> None:
        """Ask the source for the read-only drives that are not yet here. Raises QmonError, OSError."""
        for index in travelling(self._drives, offer, self._incoming.leftovers, self._show_life):
            size = self._drives[index].size
            self._writable[index] = True
            self._progress.total += size
            self._progress.remaining += size
            self._sock.sendall(answers.needed(index))

    def _show_life(self) -> None:
        """While the offer is checked: tell the source now and then that this side is alive."""
        now = time.monotonic()
        if now - self._shown > self._patience.sign:
            self._shown = now
            self._sock.sendall(answers.encode(answers.Type.BUSY))

    @staticmethod
    def _zero_ranges(drive: MigratingDrive) -> Iterator[tuple[int, int]]:
        """Yield the zero ranges of a drive. A list could take gigabytes for a fragmented disk."""
        with opening(drive):
            for extent in visible_extents(drive.node, 0, drive.size):
                if extent.kind is ExtentKind.ZERO and extent.length >= answers.MIN_ZERO_RANGE:
                    yield extent.offset, extent.length

    def _apply(self, record: Record) -> None:
        match record.kind:
            case Kind.DATA:
                drive = self._target(record)
                with _writing(drive, record):
                    drive.node.write(record.offset, record.payload)
                self._progress.transferred += record.length
                self._progress.arrived[drive.id] += record.length
            case Kind.ZERO:
                drive = self._target(record)
                with _writing(drive, record):
                    drive.node.zero(record.offset, record.length, unmap=True)
            case Kind.FLUSH:
                self._flush()
                self._sock.sendall(answers.flushed(record.sequence))
            case Kind.FINISH:
                self._finish = record.finish
            case Kind.END:
                if self._finish is not None:
                    self._check_compared()
                    self._tell_applied()
                    self._progress.remaining = 0
                    self._note_total()
                    self._progress.gates_closed = time.monotonic()
                    self._incoming.finish(self, *self._finish)
            case Kind.BACK:
                if self._finish is None:
                    raise StreamError("not a valid migration stream: BACK came without FINISH")
                self._incoming.go_back(self)
                self._finish = None
                self._progress.gates_closed = None
            case Kind.PROGRESS:
                self._progress.remaining = record.offset
                self._note_total()
            case Kind.COMPARE:
                self._compare(record)
            case Kind.WITHDRAW:
                raise QmonError(record.text)
            case Kind.HELLO:
                raise StreamError("not a valid migration stream: a second HELLO")
            case Kind.TRIAL | Kind.PROBE:
                raise StreamError(f"not a valid migration stream: {record.kind.name} came after HELLO")

    def _compare(self, record: Record) -> None:
        """Answer a COMPARE: whether a shared drive is the source's disk. Raises QmonError."""
        index = record.drive
        if index >= len(self._drives) or self._writable[index] or self._finish is not None:
            raise StreamError(
                f"not a valid migration stream: drive number {index} can't be compared at this point"
            )
        drive = self._drives[index]
        with reading(drive):
            seen, differing = answer_question(drive, drive.size, bytes(record.payload), self._show_life)
        self._incoming.note_seen(drive, seen)
        self._compared.add(index)
        self._sock.sendall(answers.compared(seen.is_same, differing))

    def _check_compared(self) -> None:
        """Raises StreamError if the source has not compared all shared disks."""
        assert self._offer is not None
        if self._offer.mode is Mode.SHARED and len(self._compared) < len(self._drives):
            raise StreamError("not a valid migration stream: the disks were not compared")

    def _note_total(self) -> None:
        """Update the total: how much of an overlay is copied is known only from the source's progress."""
        if self._has_overlays:
            progress = self._progress
            progress.total = max(progress.total, progress.transferred, progress.remaining)

    def _target(self, record: Record) -> MigratingDrive:
        """Return the drive that a record writes to. Raises StreamError if the record is not allowed."""
        if self._finish is not None:
            raise StreamError(f"not a valid migration stream: {record.kind.name} came after FINISH")
        if record.drive >= len(self._drives) or not self._writable[record.drive]:
            raise StreamError(f"not a valid migration stream: drive {record.drive} is not copied")
        drive = self._drives[record.drive]
        if record.offset + record.length > drive.size:
            raise StreamError(
                f"not a valid migration stream: {record.length} bytes at {record.offset} lie outside"
                f" drive '{drive.id}' of {drive.size} bytes"
            )
        self._wrote = True
        return drive

    def _flush(self) -> None:
        for drive, own in zip(self._drives, self._writable, strict=True):
            if own:
                with flushing_here(drive):
                    drive.node.flush()

    def _tell_applied(self) -> None:
        """Tell the source what is applied; not for each batch, because an answer costs time on both sides."""
        self._progress.rate = self._meter.add(self._progress.transferred)
        if self._applied > self._told:
            self._told, self._told_at = self._applied, self._progress.transferred
            self._sock.sendall(answers.applied(self._applied))

    def _fail(self, why: str) -> None:
        """Report an error, here and to the source. Then the next migration can be offered."""
        if self._done:
            log.debug("incoming migration: the source's connection ended: %s", why)
            return
        self._done = True
        if self._trial is not None:
            self._try_answer(answers.dismissed(why))
            log.info("incoming migration: the trial from %s ended: %s", self._peer, why)
            return
        if self._offer is None:
            self._try_answer(answers.dismissed(why))
            log.warning("incoming migration: connection from %s closed: %s", self._peer, why)
            return
        partial = "; the images here are partial" if self._wrote else ""
        # Release the images first: after the answer the source may open shared ones again.
        if self._incoming.lost(self, why, partial):
            self._try_answer(answers.refused(why))
            log.error("incoming migration %s failed: %s%s", self._offer.id, why, partial, extra=TOLD_BY_EVENT)
        else:
            log.error("incoming migration %s: %s; waiting for the source", self._offer.id, why)

    def _try_answer(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it may have disconnected
            self._sock.sendall(message)
