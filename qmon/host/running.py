"""The qmons that run: each keeps a record and a QMP socket in the state folder, where others find it.

The record is locked while its process lives. One without a lock is left from a process that was killed, and
is removed by whoever meets it, except for those of other hosts. The folder is its owner's alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qmon.errors import QmonError, reason
from qmon.host.boot import boot_id

FOLDER = "run"
"""The folder's name in the state folder."""

_RECORD = ".json"
_RECORD_BYTES_MAX = 64 << 10
_UNIX_PATH_MAX = 107
_TRIES, _PAUSE_SECONDS = 20, 0.01
_IDS_MAX = 100


@dataclass(frozen=True, slots=True)
class Running:
    """A qmon that runs."""

    pid: int
    name: str
    """The machine's name, "" if it has none."""
    folder: str
    """The working folder, to which its relative paths belong."""
    socket: str
    """The path of its QMP socket."""

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})" if self.name else str(self.pid)


class Record:
    """This process's record, from its constructor to ``remove``. Raises OSError if it can't be made.

    ``socket`` is the path for the QMP socket: not longer than a socket's may be.
    """

    def __init__(self, state_folder: Path, name: str | None) -> None:
        self._folder = _open_folder(state_folder / FOLDER)
        try:
            told = {"pid": os.getpid(), "name": name or "", "folder": os.getcwd(), **_here()}
            self._descriptor, self._id = self._write(told)
        except BaseException:
            os.close(self._folder)
            raise
        self.socket = _socket_path(state_folder / FOLDER / self._id, self._folder)
        _unlink(f"{self._id}.qmp", self._folder)  # a killed process with the same id has left it

    def _write(self, told: dict[str, Any]) -> tuple[int, str]:
        """Write the record under a free name, locked from its first moment."""
        draft = f".{os.getpid()}.{time.monotonic_ns()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o600, dir_fd=self._folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, json.dumps(told).encode())
            for number in range(_IDS_MAX):
                # Another process has the same id in another container that shares the folder.
                name = f"{os.getpid()}.{number}" if number else str(os.getpid())
                if self._link(draft, name + _RECORD):
                    return descriptor, name
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            os.unlink(draft, dir_fd=self._folder)

    def _link(self, draft: str, name: str) -> bool:
        """Give the record its name; return False if a live process has that name."""
        for _ in range(_TRIES):
            try:
                os.link(draft, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            except FileExistsError:
                if not _remove_if_left(name, self._folder):
                    time.sleep(_PAUSE_SECONDS)  # it may be another that removes it
            else:
                return True
        return False

    def remove(self) -> None:
        """Remove the record and the socket."""
        for name in (f"{self._id}.qmp", self._id + _RECORD):
            _unlink(name, self._folder)
        os.close(self._descriptor)
        os.close(self._folder)


def list_running(state_folder: Path) -> list[Running]:
    """Return the qmons that run, the oldest process first; remove what killed ones have left.

    Raises QmonError.
    """
    path = state_folder / FOLDER
    try:
        folder = _open_folder(path, create=False)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise QmonError(f"{path}: {reason(error)}") from error
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(_RECORD))
        found = []
        for name in names:
            told = _read(name, folder)
            if told is not None and not _is_elsewhere(told) and not _remove_if_left(name, folder):
                socket = _socket_path(path / name.removesuffix(_RECORD), folder, lasting=True)
                found.append(Running(told["pid"], told["name"], told["folder"], socket))
        return sorted(found, key=lambda each: each.pid)
    finally:
        os.close(folder)


def find_running(state_folder: Path, wanted: str) -> Running:
    """Return the qmon of a name or process id. Raises QmonError, which lists those that run."""
    running = list_running(state_folder)
    found = [each for each in running if each.name == wanted] or [
        each for each in running if str(each.pid) == wanted
    ]
    if len(found) == 1:
        return found[0]
    if found:
        ids = " or ".join(str(each.pid) for each in found)
        raise QmonError(f"{len(found)} qmons have the name '{wanted}': give the process id, {ids}")
    if Path(wanted).is_socket():
        raise QmonError(f"'{wanted}' is a socket in this folder: write unix:{wanted}")
    those = ", ".join(map(str, running))
    there = f"these run: {those}" if running else f"none runs with its state in {state_folder}"
    raise QmonError(f"no qmon has the name or process id '{wanted}': {there}")


def _open_folder(path: Path, *, create: bool = True) -> int:
    """Open the folder of records. Raises OSError, also for one that others may write to."""
    if create:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    user = os.geteuid()  # root may look at every user's
    if (user and status.st_uid not in (user, 0)) or stat.S_IMODE(status.st_mode) & 0o022:
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "others may write to it: it must have mode 0700")
    if create and stat.S_IMODE(status.st_mode) & 0o077 and status.st_uid == os.geteuid():
        os.chmod(path, 0o700)
    return descriptor


def _here() -> dict[str, str]:
    """Return what tells this host, and this start of it, from others."""
    return {"host": os.uname().nodename, "boot": boot_id()}


def _is_elsewhere(told: dict[str, Any]) -> bool:
    """Whether a record is of another host that shares the folder, where a lock may not be seen from here."""
    return all(told.get(key) != value for key, value in _here().items())


def _remove_if_left(name: str, folder: int) -> bool:
    """Remove a record and its socket if its process has ended; return whether it is gone."""
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # it is another user's
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        told = _read(name, folder)
        if told is not None and _is_elsewhere(told):
            return False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(name, dir_fd=folder), os.fstat(descriptor)):
                _unlink(name.removesuffix(_RECORD) + ".qmp", folder)
                _unlink(name, folder)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _read(name: str, folder: int) -> dict[str, Any] | None:
    """Return what a record says, None if it is gone or none of ours."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with open(descriptor, "rb") as file:
            told = json.loads(file.read(_RECORD_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return None
    kinds = {"pid": int, "name": str, "folder": str}
    is_ours = isinstance(told, dict) and all(isinstance(told.get(key), kind) for key, kind in kinds.items())
    return told if is_ours else None


def _socket_path(path: Path, folder: int, *, lasting: bool = False) -> str:
    """Return the path of a socket; one that is too long goes through the open folder."""
    whole = f"{path.absolute()}.qmp"
    if len(os.fsencode(whole)) <= _UNIX_PATH_MAX:
        return whole
    through = os.dup(folder) if lasting else folder  # it stays open until the process ends
    return f"/proc/self/fd/{through}/{path.name}.qmp"


def _unlink(name: str, folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
