"""Records of migrations that survive a restart: a small file per image and role, in the state folder.

A record is JSON and names the host, the migration, this side's role in it, and the image. It is found by the
image, even after a rename (``identity``), or by the migration. Only the host that wrote a record changes or
removes it, so hosts may share the folder. A record is on stable storage, under its final name, before the
other side is told what it says.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

from qmon.errors import QmonError, reason
from qmon.host.threads import Workers
from qmon.migration.identity import Image, fingerprint, identify, is_of
from qmon.migration.phases import Role, Stand

MAX_RECORD_SIZE = 64 << 10
"""Bytes: a path has at most 4 KiB, and JSON may need six bytes for one of them."""

SYNC_THREADS = 8
"""The most records that are flushed to the disk at the same time."""


class JournalError(QmonError):
    """A record can't be written or read; the message names the file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one side knows about an image's migration. ``digest`` is the stream's, ``peer`` the other side."""

    image: str
    migration_id: str
    stand: Stand
    peer: str
    digest: int = 0
    resume: bool = True
    """Whether the machine ran at the source."""
    shared: bool = False
    """Whether both sides use the same image, so that the other side may change its contents."""
    tls: bool = False
    """Whether the source has used TLS, and so must when it asks again."""
    mode: str = "full"
    """The value of the migration's ``Mode``, if it can be resumed."""
    drive: str = ""
    size: int = 0
    """The id of the image's drive and its size in bytes, if the migration can be resumed."""
    line: int = 0
    """The number of the last line of a migration that can be resumed (``wire.offer.Resume``)."""
    written: float = field(default=0.0, compare=False)
    """When its record was written, in seconds since 1970; 0.0 before it is."""

    @property
    def id(self) -> UUID:
        return UUID(hex=self.migration_id)

    @property
    def role(self) -> Role:
        return self.stand.role


@dataclass(frozen=True, slots=True)
class Record:
    """A file of the journal: an entry, the host that wrote it, and what identifies the image."""

    path: Path
    entry: Entry
    host: str
    number: int
    """Later migrations of an image have a higher one."""
    image: Image
    fingerprint: str
    """The image's at the handover (``identity.fingerprint``); "" if it is shared or all zeros."""

    @property
    def is_own(self) -> bool:
        """Whether this host wrote it."""
        return self.host == this_host()

    @property
    def holds_others(self) -> bool:
        """Whether this record of another host means that the image must not be used here.

        A destination that waits for a shared image does not keep the source's host from using it.
        """
        stand = self.entry.stand
        if stand in (Stand.PREPARED, Stand.PARTIAL):
            return not self.entry.shared
        return stand in (Stand.GONE, Stand.MOVED, Stand.UNCONFIRMED)

    def is_of(self, image: Image, look: Callable[[], str]) -> bool:
        """Whether it is about an image; ``look`` returns the image's fingerprint. In doubt it is."""
        return is_of(self.image, self.fingerprint, image, look) and not self._is_of_another_file(image)

    def _is_of_another_file(self, image: Image) -> bool:
        """Whether this host wrote it as a destination, and the recorded file is in its place and another one.

        The source's image has the same contents, and the same time of change if both were last written in
        one tick of the clock. An image that was moved is no longer in its old place.
        """
        if self.entry.role is not Role.DESTINATION or not self.is_own:
            return False
        here = identify(self.image.path)
        is_in_place = (here.inode, here.serial) == (self.image.inode, self.image.serial)
        return is_in_place and (here.device, here.inode, here.serial) != (
            image.device,
            image.inode,
            image.serial,
        )

    def replaces(self, other: Record) -> bool:
        """Whether this new record makes another one of this host about the same image useless."""
        mine, its = self.entry, other.entry
        if its.migration_id == mine.migration_id:
            return its.role is mine.role and other.path != self.path  # the image had another path
        is_over = its.role is mine.role or mine.stand.ends_others
        return is_over and its.stand is not Stand.RUNNING

    @property
    def fields(self) -> dict[str, Any]:
        """What is in the file."""
        fields = {
            **asdict(self.entry),
            "stand": self.entry.stand.value,
            "host": self.host,
            "number": self.number,
            "fingerprint": self.fingerprint,
            "file": asdict(self.image),
        }
        del fields["written"]  # the file's own time tells it
        return fields

    @property
    def has_changed(self) -> bool:
        """Whether the image was written after the handover, which nobody should do. Raises JournalError."""
        if not self.fingerprint:
            return False
        now = identify(self.entry.image)
        is_here = (now.inode, now.serial) == (self.image.inode, self.image.serial)
        # At the destination, closing the image may have changed its time of change.
        is_written = self.entry.role is Role.SOURCE and is_here and now.modified != self.image.modified
        return is_written or _look(self.entry.image) != self.fingerprint


@cache
def this_host() -> str:
    """Return an id of this host that survives a reboot (from machine-id(5), else from the host name)."""
    try:
        text = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        text = ""
    # machine-id(5): the id itself must not leave the host.
    return hashlib.sha256(f"qmon {text or os.uname().nodename}".encode()).hexdigest()[:32]


def _look(path: str) -> str:
    try:
        return fingerprint(path)
    except OSError as error:
        raise JournalError(f"the image '{path}' can't be read: {reason(error)}") from error


def _looking_at(path: str) -> Callable[[], str]:
    return cache(lambda: _look(path))


def _record(
    entry: Entry, image: Image, before: Sequence[Record], look: Callable[[], str], folder: Path
) -> Record:
    """Return a new record; ``before`` are this host's records of the image."""
    same = [each.number for each in before if each.entry.migration_id == entry.migration_id]
    return Record(
        path=folder / _name(entry, image),
        entry=replace(entry, image=image.path),
        host=this_host(),
        number=max(same or [1 + max((each.number for each in before), default=0)]),
        image=image,
        fingerprint="" if entry.shared or not image.device else look(),
    )


def _name(entry: Entry, image: Image) -> str:
    name = os.path.basename(image.path)[:80]
    owner = f"{this_host()}|{entry.migration_id}|{image.path}"
    tag = hashlib.sha256(owner.encode(errors="surrogateescape")).hexdigest()[:16]
    return f"{name}.{tag}.{entry.role.value}.json"


def _fresh(path: Path) -> Path:
    """Where the new record is written before it takes the old one's place."""
    return path.with_suffix(f".{os.getpid()}.new")


def _create(path: Path) -> TextIO:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return open(descriptor, "w", encoding="ascii")


def _sync(files: Sequence[int]) -> None:
    """Flush files to the disk. Raises OSError.

    The kernel writes for several at once if they are flushed at the same time: a tenth of the time for 64.
    """
    if len(files) < 2:
        for each in files:
            os.fsync(each)
        return
    with Workers(min(len(files), SYNC_THREADS), "migration-journal") as workers:
        for _ in workers.map(os.fsync, files):
            pass  # it raises the errors


class Journal:
    """The records in ``folder``/migration; the folder is created when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "migration"

    def write(self, *entries: Entry) -> None:
        """Write the records of images, one for each; on return they are on stable storage.

        This removes what this host has recorded about an image in other migrations: everything, if the image
        is now released or running, else only records of the same role. A record that the destination ran is
        kept until its source knows it. Raises JournalError; then the old or the new record of each image is
        in place. Guests wait meanwhile, so the folder is read once for all images.
        """
        if not entries:
            return
        known = list(self._records())
        made, over = [], []
        for entry in entries:
            look = _looking_at(entry.image)
            image = identify(entry.image)
            before = [each for each in known if each.is_own and each.is_of(image, look)]
            record = _record(entry, image, before, look, self._folder)
            made.append(record)
            over += [each for each in before if record.replaces(each)]
        self._put(made)
        for each in over:
            self._remove(each)

    def find(self, path: str) -> list[Record]:
        """Return the records of an image, from all hosts. Raises JournalError if one can't be read."""
        image, look = identify(path), _looking_at(path)
        return [
            replace(each, entry=replace(each.entry, image=path))
            for each in self._records()
            if each.is_of(image, look)
        ]

    def of_migration(
        self, migration_id: UUID, role: Role, stands: Container[Stand] = frozenset(Stand)
    ) -> list[Record]:
        """Return this host's records of a migration. Raises JournalError if one can't be read."""
        return [
            each
            for each in self._records()
            if each.is_own
            and each.entry.id == migration_id
            and each.entry.role is role
            and each.entry.stand in stands
        ]

    def forget(self, migration_id: UUID, role: Role, stands: Container[Stand] = frozenset(Stand)) -> None:
        """Remove this host's records of a migration, if there are any. Raises JournalError."""
        found = self.of_migration(migration_id, role, stands)
        for each in found:
            self._remove(each)
        self._sync_folder()

    def _put(self, records: Sequence[Record]) -> None:
        path = self._folder
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with ExitStack() as stack:
                files = []
                for record in records:
                    path = record.path
                    files.append(stack.enter_context(_create(_fresh(path))))
                    files[-1].write(json.dumps(record.fields))
                    files[-1].flush()
                _sync([file.fileno() for file in files])
            for record in records:
                path = record.path
                _fresh(path).replace(path)
            self._sync_folder()
        except OSError as error:
            for record in records:
                with suppress(OSError):  # the first error is told
                    _fresh(record.path).unlink(missing_ok=True)
            raise JournalError(
                f"the migration's record can't be written to {path}: {reason(error)}"
            ) from error

    def _records(self) -> Iterator[Record]:
        """Yield all records in the folder. Raises JournalError if one can't be read."""
        try:
            names = sorted(os.listdir(self._folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise JournalError(
                f"the migrations' records in {self._folder} can't be read: {reason(error)}"
            ) from error
        for name in names:
            if name.endswith(".json"):
                record = _read(self._folder / name)
                if record is not None:
                    yield record

    def _remove(self, record: Record) -> None:
        try:
            record.path.unlink(missing_ok=True)
        except OSError as error:
            raise JournalError(
                f"the migration's record {record.path} can't be removed: {reason(error)}"
            ) from error

    def _sync_folder(self) -> None:
        """Flush the folder itself. Raises JournalError."""
        try:
            with ExitStack() as stack:
                descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, descriptor)
                os.fsync(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise JournalError(
                f"the records of migrations in {self._folder} can't be flushed to disk: {reason(error)}"
            ) from error


def _read(path: Path) -> Record | None:
    """Return the record in a file, None if the file has just been removed. Raises JournalError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, encoding="ascii") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("not a regular file")
            text = file.read(MAX_RECORD_SIZE)
            status = os.fstat(descriptor)
        fields = json.loads(text)
        _check_owner(path, status, str(fields["peer"]))
        file_fields = fields["file"]
        image = Image(
            path=str(file_fields["path"]),
            device=str(file_fields["device"]),
            inode=int(file_fields["inode"]),
            serial=str(file_fields["serial"]),
            size=int(file_fields["size"]),
            modified=int(file_fields["modified"]),
        )
        entry = Entry(
            image=image.path,
            migration_id=UUID(hex=fields["migration_id"]).hex,
            stand=Stand(fields["stand"]),
            peer=str(fields["peer"]),
            digest=int(fields["digest"]),
            resume=bool(fields["resume"]),
            shared=bool(fields["shared"]),
            tls=bool(fields.get("tls", False)),
            mode=str(fields.get("mode", "full")),
            drive=str(fields.get("drive", "")),
            size=int(fields.get("size", 0)),
            line=int(fields.get("line", 0)),
            written=status.st_mtime,
        )
        return Record(
            path, entry, str(fields["host"]), int(fields["number"]), image, str(fields["fingerprint"])
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"the migration's record {path} can't be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise JournalError(
            f"the migration's record {path} is damaged: find out which side runs, then remove it"
        ) from error


def _check_owner(path: Path, status: os.stat_result, peer: str) -> None:
    """Raises JournalError for a command that another user has recorded: it would run with these rights."""
    if peer.startswith("exec:") and status.st_uid not in (0, os.geteuid()):
        raise JournalError(
            f"the migration's record {path} names a command, and belongs to another user: look at it, then"
            " change its owner or remove it"
        )


def counts(records: Sequence[Record], *, may_come_in: bool) -> Record | None:
    """Return the one record of an image that decides what this process may do with it, or None.

    This host's own records come first. An image can have a record as a source and one as a destination: it
    was migrated back, or both sides share it on one host. ``may_come_in`` says whether -incoming was given;
    then the destination's record counts, else the source's, with the exceptions below.
    """
    known = [each for each in records if each.is_own] or [each for each in records if each.holds_others]
    by_role = {each.entry.role: each for each in sorted(known, key=lambda each: each.number)}
    source, destination = by_role.get(Role.SOURCE), by_role.get(Role.DESTINATION)
    if source is None or destination is None:
        return source or destination
    # The process may have ended after it wrote the newer record and before it removed the older one.
    if source.entry.id != destination.entry.id:
        newer = max(source, destination, key=lambda each: each.number)
        if newer.entry.stand.ends_others or newer.entry.stand.can_resume:
            return newer
    is_in_doubt = source.entry.stand is Stand.GONE and not may_come_in
    has_arrived = destination.entry.stand is Stand.PREPARED or may_come_in
    return destination if has_arrived and not is_in_doubt else source
