"""File descriptors that clients or the command line have passed: named ones, and sets (QAPI: misc.json)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.host.descriptors import TAKE_RECEIVED
from qmon.host.fdsets import PROCESS, Member
from qmon.notation.fd_options import AddFd
from qmon.qmp.registry import command


class DescriptorCommands:
    """Keeps the descriptors until they are used or closed, or the machine ends."""

    def __init__(self) -> None:
        self._named: dict[str, int] = {}
        self._sets = PROCESS

    def close(self) -> None:
        """Close all descriptors."""
        for descriptor in self._named.values():
            os.close(descriptor)
        self._named.clear()
        self._sets.clear()

    def _add_inherited(self, option: AddFd) -> None:
        """Put a duplicate of an inherited descriptor into a set; as in QEMU, several options may name it.

        Raises UsageError if it is not open.
        """
        try:
            inherits = not fcntl.fcntl(option.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
            descriptor = fcntl.fcntl(option.fd, fcntl.F_DUPFD_CLOEXEC, 0) if inherits else None
        except OSError:
            descriptor = None
        if descriptor is None:
            raise UsageError("fd is not valid or already in use")
        self._sets.add(option.set, Member(descriptor, option.opaque))

    def add_all_inherited(self, options: Sequence[AddFd]) -> None:
        """Put inherited descriptors into sets, and close them. Raises CommandError naming the option."""
        for option in options:
            try:
                self._add_inherited(option)
            except UsageError as error:
                raise CommandError(f"{option.shown}: {error}") from error
        for descriptor in {option.fd for option in options}:
            os.close(descriptor)  # each set has its duplicate

    def take_named(self, name: str) -> int:
        """Return a descriptor by its name; the caller owns it from now on. Raises CommandError."""
        if name not in self._named:
            raise CommandError(f"File descriptor named '{name}' has not been found")
        return self._named.pop(name)

    @command("getfd")
    async def getfd(self, fdname: str) -> dict[str, Any]:
        descriptor = _received()
        if fdname[:1].isdigit():
            os.close(descriptor)
            raise CommandError("Parameter 'fdname' expects a name not starting with a digit")
        if fdname in self._named:
            os.close(self._named[fdname])
        self._named[fdname] = descriptor
        return {}

    @command("closefd")
    async def closefd(self, fdname: str) -> dict[str, Any]:
        if fdname not in self._named:
            raise CommandError(f"File descriptor named '{fdname}' not found")
        os.close(self._named.pop(fdname))
        return {}

    @command("add-fd")
    async def add_fd(self, fdset_id: int | None = None, opaque: str | None = None) -> dict[str, Any]:
        descriptor = _received()
        if fdset_id is not None and fdset_id < 0:
            os.close(descriptor)
            raise CommandError("Parameter 'fdset-id' expects a non-negative value")
        return {"fdset-id": self._sets.add(fdset_id, Member(descriptor, opaque)), "fd": descriptor}

    @command("remove-fd")
    async def remove_fd(self, fdset_id: int, fd: int | None = None) -> dict[str, Any]:
        """Close one descriptor of a set, or all of them. A set that becomes empty is removed."""
        if not self._sets.remove(fdset_id, fd):
            which = f"fdset-id:{fdset_id}" + ("" if fd is None else f", fd:{fd}")
            raise CommandError(f"File descriptor named '{which}' not found")
        return {}

    @command("query-fdsets")
    async def query_fdsets(self) -> list[dict[str, Any]]:
        return [
            {"fdset-id": number, "fds": [_describe(member) for member in reversed(members)]}
            for number, members in reversed(self._sets.all())
        ]


def _received() -> int:
    descriptor = TAKE_RECEIVED.get()()
    if descriptor is None:
        raise CommandError("No file descriptor supplied via SCM_RIGHTS")
    return descriptor


def _describe(member: Member) -> dict[str, Any]:
    info: dict[str, Any] = {"fd": member.descriptor}
    if member.opaque is not None:
        info["opaque"] = member.opaque
    return info
