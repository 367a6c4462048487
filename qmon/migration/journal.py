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
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from uuid import UUID

from qmon.errors import QmonError, reason
from qmon.migration.identity import Image, fingerprint, identify, is_of
from qmon.migration.phases import Role, Stand

MAX_RECORD_SIZE = 64 << 10
"""Bytes: a path has at most 4 KiB, and JSON may need six bytes for one of them."""


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
        return stand in (Stand.GONE, Stand.MOVED) or (stand is Stand.PREPARED and not self.entry.shared)

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


class Journal:
    """The records in ``folder``/migration; the folder is created when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "migration"

    def write(self, entry: Entry) -> None:
        """Write the record of an image; on return it is on stable storage.

        This removes what this host has recorded about the image in other migrations: everything, if the image
        is now released or running, else only records of the same role. A record that the destination ran is
        kept until its source knows it. Raises JournalError; then the old or the new record is in place.
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
            if each.entry.role is entry.role and each.path != record.path:  # the image had another path
                self._remove(each)
        for each in others:
            is_over = each.entry.role is entry.role or entry.stand.ends_others
            if is_over and each.entry.stand is not Stand.RUNNING:
                self._remove(each)

    def find(self, path: str) -> list[Record]:
        """Return the records of an image, from all hosts. Raises JournalError if one can't be read."""
        image = identify(path)

        @cache
        def look() -> str:
            return _look(path)

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

    def forget(self, migration_id: UUID, role: Role) -> None:
        """Remove this host's records of a migration, if there are any. Raises JournalError."""
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
        del fields["written"]  # the file's own time tells it
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
            written = os.fstat(descriptor).st_mtime
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
            written=written,
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
        if newer.entry.stand.ends_others:
            return newer
    is_in_doubt = source.entry.stand is Stand.GONE and not may_come_in
    has_arrived = destination.entry.stand is Stand.PREPARED or may_come_in
    return destination if has_arrived and not is_in_doubt else source
