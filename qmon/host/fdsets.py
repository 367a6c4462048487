"""The sets of inherited or received descriptors of this process, and files named ``/dev/fdset/N`` by them.

A set has a descriptor for each kind of access. Who opens ``/dev/fdset/N`` gets one that allows the access.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
import threading
from dataclasses import dataclass

from qmon.notation.fd_options import fdset_of


@dataclass(frozen=True, slots=True)
class Member:
    """A descriptor that its set owns; ``opaque`` is its user's own text."""

    descriptor: int
    opaque: str | None = None

    def allows(self, access: int) -> bool:
        """Whether it allows O_RDONLY, O_WRONLY or O_RDWR."""
        own = fcntl.fcntl(self.descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        return own in (access, os.O_RDWR)


class FdSets:
    """Sets by their numbers, for any thread."""

    def __init__(self) -> None:
        self._sets: dict[int, list[Member]] = {}
        self._lock = threading.Lock()

    def add(self, number: int | None, member: Member) -> int:
        """Add a descriptor, which the sets own from now on; return the set's number, a new one for None."""
        with self._lock:
            if number is None:
                number = next(each for each in itertools.count() if each not in self._sets)
            self._sets.setdefault(number, []).insert(0, member)
        return number

    def remove(self, number: int, descriptor: int | None = None) -> bool:
        """Close one descriptor of a set, or all. An empty set is removed. Return whether one was closed."""
        with self._lock:
            members = self._sets.get(number, [])
            leaving = [each for each in members if descriptor in (None, each.descriptor)]
            for member in leaving:
                members.remove(member)
                os.close(member.descriptor)
            if number in self._sets and not members:
                del self._sets[number]
        return bool(leaving)

    def clear(self) -> None:
        """Close all descriptors."""
        for number, _ in self.all():
            self.remove(number)

    def all(self) -> list[tuple[int, list[Member]]]:
        """Return the sets by their numbers, in order."""
        with self._lock:
            return [(number, list(members)) for number, members in sorted(self._sets.items())]

    def find(self, path: str, access: int | None = None) -> int | None:
        """Return a descriptor of the set that a path names; None for a path that names no set.

        Raises OSError: there is no such set, or none of its descriptors allows the access.
        """
        try:
            number = fdset_of(path)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error), path) from error
        if number is None:
            return None
        with self._lock:
            members = list(self._sets.get(number, []))
        if not members:
            raise OSError(errno.ENOENT, f"Failed to find fdset {path}", path)
        for member in members:
            if access is None or member.allows(access):
                return member.descriptor
        wanted = "reading" if access == os.O_RDONLY else "writing"
        raise OSError(errno.EACCES, f"no descriptor of the set is open for {wanted}", path)


PROCESS = FdSets()
"""The sets of this process."""


def open_file(path: str, flags: int, mode: int = 0o600) -> tuple[int, bool]:
    """Open a file by its path or by its set; return the descriptor, and whether its offset, flags and locks
    are shared with the set's.

    A file of a set is opened once more if this process may do so, else its descriptor is duplicated. Raises
    OSError.
    """
    member = PROCESS.find(path, flags & os.O_ACCMODE)
    if member is None:
        return os.open(path, flags, mode), False
    kind = os.fstat(member).st_mode
    if stat.S_ISREG(kind) or stat.S_ISBLK(kind):
        try:
            return os.open(_link(member), flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)), False
        except PermissionError:
            pass  # the process that has passed it may open it, and this one may not
    return os.dup(member), True


def real_name(path: str) -> str:
    """Return a name that the kernel knows: of a set's file the link to it, of another file its path.

    Raises OSError if there is no such set.
    """
    member = PROCESS.find(path)
    return path if member is None else _link(member)


def _link(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"
