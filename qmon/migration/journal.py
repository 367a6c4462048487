"""What a restart must not forget of a migration: a small file for each image and role, in the state folder.

A record, in JSON, names the host, the migration, its end of it and the image. It is found by the image, under
whatever name (``identity``), or by the migration; and it is changed and removed by its owner alone: the
host that wrote it. So hosts may keep their records in one folder. A record is written whole, flushed and
renamed into place before the other side can hear of what it says.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from uuid import UUID

from qmon.errors import QmonError, reason
from qmon.migration.identity import Image, fingerprint, identify, is_of
from qmon.migration.phases import Role, Stand

MAX_RECORD_SIZE = 64 << 10
"""Bytes: a path has at most 4 KiB, and each may take six in JSON."""


class JournalError(QmonError):
    """A record that can't be written or read; the message names the file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a side knows of one image's migration. ``digest`` is of the stream, ``peer`` is its other end."""

    image: str
    migration_id: str
    stand: Stand
    peer: str
    digest: int = 0
    resume: bool = True
    """Whether the machine ran at the source."""
    shared: bool = False
    """Whether both sides use this very image, so that what it holds changes."""

    @property
    def id(self) -> UUID:
        return UUID(hex=self.migration_id)

    @property
    def role(self) -> Role:
        return self.stand.role


@dataclass(frozen=True, slots=True)
class Record:
    """An entry as it lies in a file."""

    path: Path
    entry: Entry
    host: str
    number: int
    """Later migrations of an image have a higher one."""
    image: Image
    fingerprint: str
    """Of the image as it was handed over, "" where it is shared or tells nothing (``identity``)."""

    @property
    def is_own(self) -> bool:
        """Whether this host wrote it."""
        return self.host == this_host()

    @property
    def holds_others(self) -> bool:
        """Whether another host than its own is to leave the image alone.

        A destination that waits for a shared image says nothing about the source's host, which has it, and
        one that runs is no reason for another host to run.
        """
        stand = self.entry.stand
        return stand in (Stand.GONE, Stand.MOVED) or (stand is Stand.PREPARED and not self.entry.shared)

    @property
    def has_changed(self) -> bool:
        """Whether the image was written since, though it was to be left alone. Raises JournalError."""
        if not self.fingerprint:
            return False
        now = identify(self.entry.image)
        is_here = (now.inode, now.serial) == (self.image.inode, self.image.serial)
        # What a closed image of the destination's says of itself may have been written when it was closed.
        is_written = self.entry.role is Role.SOURCE and is_here and now.modified != self.image.modified
        return is_written or _look(self.entry.image) != self.fingerprint


@cache
def this_host() -> str:
    """What tells this host from others for longer than it is up (machine-id(5), else its name)."""
    try:
        text = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        text = ""
    # The number itself is to be kept to the host.
    return hashlib.sha256(f"qmon {text or os.uname().nodename}".encode()).hexdigest()[:32]


def _look(path: str) -> str:
    try:
        return fingerprint(path)
    except OSError as error:
        raise JournalError(f"the image '{path}' can't be read: {reason(error)}") from error


class Journal:
    """The records in ``folder``/migration; the folder is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "migration"

    def write(self, entry: Entry) -> None:
        """Record how things stand with an image; on return it is on stable storage.

        What this host recorded of the image by other migrations goes: all of it where the image is now given
        up or run with, else only that of the same role. That it ran stays, until its source has heard it.
        Raises JournalError: then the record is the one before, or this one.
        """
        image = identify(entry.image)
        before = [each for each in self.find(entry.image) if each.is_own]
        same = [each for each in before if each.entry.migration_id == entry.migration_id]
        others = [each for each in before if each.entry.migration_id != entry.migration_id]
        number = max([each.number for each in same] or [1 + max((each.number for each in others), default=0)])
        record = Record(
            path=self._path(entry, image),
            entry=replace(entry, image=image.path),
            host=this_host(),
            number=number,
            image=image,
            fingerprint="" if entry.shared or not image.device else _look(entry.image),
        )
        self._put(record)
        for each in same:
            if each.entry.role is entry.role and each.path != record.path:  # by another name
                self._remove(each)
        for each in others:
            is_over = each.entry.role is entry.role or entry.stand.ends_others
            if is_over and each.entry.stand is not Stand.RUNNING:
                self._remove(each)

    def find(self, path: str) -> list[Record]:
        """All that is recorded of an image, by any host. Raises JournalError for what can't be read."""
        image = identify(path)

        @cache
        def look() -> str:
            return _look(path)

        return [
            replace(each, entry=replace(each.entry, image=path))
            for each in self._records()
            if is_of(each.image, each.fingerprint, image, look)
        ]

    def of_migration(
        self, migration_id: UUID, role: Role, stands: Container[Stand] = frozenset(Stand)
    ) -> list[Record]:
        """What this host recorded of a migration. Raises JournalError for what can't be read."""
        return [
            each
            for each in self._records()
            if each.is_own
            and each.entry.id == migration_id
            and each.entry.role is role
            and each.entry.stand in stands
        ]

    def forget(self, migration_id: UUID, role: Role) -> None:
        """Remove what this host recorded of a migration, if anything. Raises JournalError."""
        for each in self.of_migration(migration_id, role):
            self._remove(each)
        self._sync_folder()

    def _path(self, entry: Entry, image: Image) -> Path:
        name = os.path.basename(image.path)[:80]
        owner = f"{this_host()}|{entry.migration_id}|{image.path}"
        tag = hashlib.sha256(owner.encode(errors="surrogateescape")).hexdigest()[:16]
        return self._folder / f"{name}.{tag}.{entry.role.value}.json"

    def _put(self, record: Record) -> None:
        fields = {
            **asdict(record.entry),
            "stand": record.entry.stand.value,
            "host": record.host,
            "number": record.number,
            "fingerprint": record.fingerprint,
            "file": asdict(record.image),
        }
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = record.path.with_suffix(f".{os.getpid()}.new")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                json.dump(fields, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(record.path)
            self._sync_folder()
        except OSError as error:
            raise JournalError(
                f"the migration's record can't be written to {record.path}: {reason(error)}"
            ) from error

    def _records(self) -> Iterator[Record]:
        """Everything in the folder. Raises JournalError for what can't be read."""
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
        """Raises JournalError."""
        try:
            with ExitStack() as stack:
                descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, descriptor)
                os.fsync(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise JournalError(
                f"the migrations' records in {self._folder} can't be flushed: {reason(error)}"
            ) from error


def _read(path: Path) -> Record | None:
    """The record in a file, None for one that has gone meanwhile. Raises JournalError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, encoding="ascii") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("not a regular file")
            text = file.read(MAX_RECORD_SIZE)
        fields = json.loads(text)
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


def counts(records: Sequence[Record], *, may_come_in: bool) -> Record | None:
    """Which of an image's records says how things stand with it.

    ``may_come_in`` is whether -incoming was given. This host's own come first. An image can have a record of
    either end: it came back to where it was, or both ends share it on one host. Then the one counts that says
    more of what this process is for.
    """
    known = [each for each in records if each.is_own] or [each for each in records if each.holds_others]
    by_role = {each.entry.role: each for each in sorted(known, key=lambda each: each.number)}
    source, destination = by_role.get(Role.SOURCE), by_role.get(Role.DESTINATION)
    if source is None or destination is None:
        return source or destination
    # A process may have ended before it removed what the newer one ends.
    if source.entry.id != destination.entry.id:
        newer = max(source, destination, key=lambda each: each.number)
        if newer.entry.stand.ends_others:
            return newer
    is_in_doubt = source.entry.stand is Stand.GONE and not may_come_in
    has_arrived = destination.entry.stand is Stand.PREPARED or may_come_in
    return destination if has_arrived and not is_in_doubt else source
