"""File descriptors that clients have passed: named ones, and sets of them (QAPI: misc.json)."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import Any

from qmon.errors import CommandError
from qmon.host.descriptors import TAKE_RECEIVED
from qmon.qmp.registry import command


@dataclass(frozen=True, slots=True)
class _Member:
    descriptor: int
    opaque: str | None


class DescriptorCommands:
    """Keeps the descriptors until they are used or closed, or the machine ends."""

    def __init__(self) -> None:
        self._named: dict[str, int] = {}
        self._sets: dict[int, list[_Member]] = {}

    def close(self) -> None:
        """Close all descriptors."""
        for descriptor in self._named.values():
            os.close(descriptor)
        for member in itertools.chain.from_iterable(self._sets.values()):
            os.close(member.descriptor)
        self._named.clear()
        self._sets.clear()

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
        if fdset_id is None:
            fdset_id = next(number for number in itertools.count() if number not in self._sets)
        self._sets.setdefault(fdset_id, []).insert(0, _Member(descriptor, opaque))
        return {"fdset-id": fdset_id, "fd": descriptor}

    @command("remove-fd")
    async def remove_fd(self, fdset_id: int, fd: int | None = None) -> dict[str, Any]:
        """Close one descriptor of a set, or all of them. A set that becomes empty is removed."""
        members = self._sets.get(fdset_id, [])
        leaving = [member for member in members if fd in (None, member.descriptor)]
        if not leaving:
            which = f"fdset-id:{fdset_id}" + ("" if fd is None else f", fd:{fd}")
            raise CommandError(f"File descriptor named '{which}' not found")
        for member in leaving:
            members.remove(member)
            os.close(member.descriptor)
        if not members:
            del self._sets[fdset_id]
        return {}

    @command("query-fdsets")
    async def query_fdsets(self) -> list[dict[str, Any]]:
        return [
            {"fdset-id": number, "fds": [_describe(member) for member in members]}
            for number, members in sorted(self._sets.items())
        ]


def _received() -> int:
    descriptor = TAKE_RECEIVED.get()()
    if descriptor is None:
        raise CommandError("No file descriptor supplied via SCM_RIGHTS")
    return descriptor


def _describe(member: _Member) -> dict[str, Any]:
    info: dict[str, Any] = {"fd": member.descriptor}
    if member.opaque is not None:
        info["opaque"] = member.opaque
    return info
