"""Reads where ``-connect`` connects to. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from qmon.errors import UsageError
from qmon.notation.address import InetAddress, UnixAddress, check_port, parse_inet, parse_unix


class Kind(enum.Enum):
    """What answers at an address."""

    QMP = "qmp"
    """A QMP server: QEMU, qemu-storage-daemon or qmon."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An inherited descriptor: a connected socket."""

    number: int

    def __str__(self) -> str:
        return f"fd:{self.number}"


Place = UnixAddress | InetAddress | Descriptor


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """An address of ``-connect``; ``str()`` is how it is written."""

    kind: Kind
    place: Place

    def __str__(self) -> str:
        return str(self.place)

    @property
    def short(self) -> str:
        """A few characters that tell it from others, for a prompt: a path's last part, or the address."""
        if isinstance(self.place, UnixAddress):
            return self.place.path.rpartition("/")[2]
        return str(self.place)


FORMS = "unix:PATH, HOST:PORT or fd:N"


def parse_remote(text: str) -> RemoteAddress:
    """Read an argument of ``-connect``. Raises UsageError."""
    return RemoteAddress(Kind.QMP, _place(text))


def _place(text: str) -> Place:
    scheme, colon, rest = text.partition(":")
    if not colon:
        raise UsageError(f"expected {FORMS}")
    match scheme:
        case "unix":
            return parse_unix(rest.partition(",")[0])
        case "fd":
            if not (rest.isascii() and rest.isdigit() and len(rest) < 8):
                raise UsageError(f"expected the number of an inherited socket after 'fd:', found '{rest}'")
            return Descriptor(int(rest))
    address = parse_inet(text.removeprefix("tcp:"))
    check_port(address)
    return address
