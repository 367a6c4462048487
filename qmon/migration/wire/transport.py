"""Reads a migration's URI, the place of the other side (QAPI: migrate, "uri" and "channels"). Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from qmon.errors import CommandError
from qmon.notation.address import Address, parse_address
from qmon.notation.units import parse_size

DEFER = "defer"
"""In the place of a URI: the destination gets it later, by migrate_incoming."""

SHELL = ("/bin/sh", "-c")
OFFSET = ",offset="


@dataclass(frozen=True, slots=True)
class ExecPlace:
    """A command whose standard input and output are the other side."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FdPlace:
    """A descriptor that was passed by getfd, by its name, or was inherited, by its number."""

    name: str


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file in which the stream begins at ``offset``, in bytes."""

    path: str
    offset: int = 0


Place = Address | ExecPlace | FdPlace | FilePlace


def _no_descriptor() -> int:
    """After a restart there is none: the earlier process had it."""
    raise OSError("it can't be opened again")


@dataclass(frozen=True, slots=True)
class Transport:
    """A migration's URI as written, and its place. ``descriptor`` is for fd: and file: alone."""

    uri: str
    place: Place
    descriptor: Callable[[], int] = _no_descriptor


def parse_uri(uri: str) -> Transport:
    """Read ``tcp:HOST:PORT``, ``unix:PATH``, ``exec:COMMAND``, ``fd:NAME`` or ``file:PATH[,offset=N]``.

    With an empty HOST a destination listens on all addresses. Raises CommandError if it is not a migration
    URI, UsageError for an invalid address.
    """
    protocol, colon, rest = uri.partition(":")
    match protocol:
        case "tcp" | "unix" if colon:
            return Transport(uri, parse_address(uri))
        case "exec" if colon:
            return Transport(uri, ExecPlace((*SHELL, rest)))
        case "fd" if colon and rest:
            return Transport(uri, FdPlace(rest))
        case "fd" if colon:
            raise CommandError("invalid file descriptor address")
        case "file" if colon:
            return Transport(uri, _file(rest))
        case "rdma" | "x-rdma" if colon:
            raise CommandError(f"Migration by '{protocol}:' is not supported: use tcp:HOST:PORT or unix:PATH")
    raise CommandError("Parameter 'uri' expects a valid migration protocol")


def _file(rest: str) -> FilePlace:
    path, comma, number = rest.rpartition(OFFSET)
    if not comma:
        return FilePlace(rest)
    try:
        return FilePlace(path, parse_size(number))
    except ValueError as error:
        raise CommandError(f"file URI has bad offset {number}: Invalid argument") from error


def shown(place: ExecPlace) -> str:
    """Return the URI of a command."""
    if place.argv[:2] == SHELL and len(place.argv) == 3:
        return f"exec:{place.argv[2]}"
    return f"exec:{shlex.join(place.argv)}"
