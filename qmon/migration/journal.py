"""What a restart must not forget of a migration: a small file for each image and role, in the state folder.

The file is named by the image and holds one record, in JSON. It is written whole, flushed and renamed into
place before the other side can hear of what it says.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from qmon.errors import QmonError, reason


class JournalError(QmonError):
    """A record that can't be written or read; the message names the file."""


class Stand(enum.Enum):
    """How things stand with an image."""

    GONE = "gone"
    """This side told the other to run with it, and has not heard whether it does."""
    MOVED = "moved"
    """The other side runs with it: what is here is left behind."""
    PREPARED = "prepared"
    """It has arrived here, whole, and may be run with when the source says so."""
    RUNNING = "running"
    """It has arrived here and this side runs with it."""
    REFUSED = "refused"
    """It had arrived here, and this side has refused to run with it."""


class Role(enum.Enum):
    """Which end of the migration the record is of: with shared storage both may be on one host."""

    SOURCE = "source"
    DESTINATION = "destination"


ROLES = {
    Stand.GONE: Role.SOURCE,
    Stand.MOVED: Role.SOURCE,
    Stand.PREPARED: Role.DESTINATION,
    Stand.RUNNING: Role.DESTINATION,
    Stand.REFUSED: Role.DESTINATION,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One image's record. ``digest`` and ``records`` are of the stream, ``peer`` is its other end."""

    image: str
    migration_id: str
    stand: Stand
    peer: str
    digest: int = 0
    resume: bool = True
    """Whether the machine ran at the source."""

    @property
    def id(self) -> UUID:
        return UUID(hex=self.migration_id)

    @property
    def role(self) -> Role:
        return ROLES[self.stand]


class Journal:
    """The records in ``folder``/migration; the folder is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "migration"

    def _path(self, image: str, role: Role) -> Path:
        real = os.path.realpath(image)
        name = os.path.basename(real)[:80]
        return self._folder / f"{name}.{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}.{role.value}.json"

    def write(self, entry: Entry) -> None:
        """Put an image's record in the place of the one before; on return it is on stable storage.

        Raises JournalError: then it is the one before, or this one.
        """
        path = self._path(entry.image, entry.role)
        fields = {**asdict(entry), "image": os.path.realpath(entry.image), "stand": entry.stand.value}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{os.getpid()}.new")
            with fresh.open("w", encoding="utf-8", errors="surrogateescape") as file:
                json.dump(fields, file, ensure_ascii=True)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            self._sync_folder()
        except OSError as error:
            raise JournalError(
                f"the migration's record can't be written to {path}: {reason(error)}"
            ) from error

    def read(self, image: str, role: Role) -> Entry | None:
        """An image's record of one role, or None. Raises JournalError for one that can't be read."""
        path = self._path(image, role)
        try:
            with path.open(encoding="utf-8", errors="surrogateescape") as file:
                fields = json.load(file)
            return Entry(
                image=image,
                migration_id=UUID(hex=fields["migration_id"]).hex,
                stand=Stand(fields["stand"]),
                peer=str(fields["peer"]),
                digest=int(fields["digest"]),
                resume=bool(fields["resume"]),
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise JournalError(f"the migration's record {path} can't be read: {reason(error)}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalError(
                f"the migration's record {path} is damaged: find out which side runs, then remove it"
            ) from error

    def forget(self, image: str, role: Role) -> None:
        """Take an image's record of one role away, if there is one. Raises JournalError."""
        path = self._path(image, role)
        try:
            path.unlink()
            self._sync_folder()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise JournalError(f"the migration's record {path} can't be removed: {reason(error)}") from error

    def _sync_folder(self) -> None:
        with contextlib.ExitStack() as stack:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            os.fsync(descriptor)
