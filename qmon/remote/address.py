"""Reads where ``-connect`` connects to. Pure."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from qmon.errors import UsageError
from qmon.notation.address import InetAddress, UnixAddress, check_port, parse_inet, parse_unix


class Kind(enum.Enum):
    """What answers at an address."""

    QMP = "qmp"
    """A QMP server: QEMU, qemu-storage-daemon or qmon."""
    HMP = "hmp"
    """A human monitor: a QEMU that was started with ``-monitor``."""
    LIBVIRT = "libvirt"
    """A domain of libvirt, which holds its monitor."""
    QMON = "qmon"
    """A qmon of this user, found by its name or process id."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An inherited descriptor: a connected socket."""

    number: int

    def __str__(self) -> str:
        return f"fd:{self.number}"


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of libvirt: its name, number or UUID, and the URI where libvirt has it; "" for the default."""

    uri: str
    name: str

    def __str__(self) -> str:
        return f"{self.uri}/{self.name}" if self.uri else self.name


@dataclass(frozen=True, slots=True)
class Qmon:
    """The name of a qmon that runs, or its process id."""

    name: str

    def __str__(self) -> str:
        return self.name


Socket = UnixAddress | InetAddress | Descriptor
Place = Socket | Domain | Qmon


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """An address of ``-connect``; ``str()`` is how it is written."""

    kind: Kind
    place: Place
    tls_creds: str | None = None
    """The id of the credentials, if the connection is to be under TLS."""
    tls_hostname: str | None = None
    """The name in the server's certificate, if that is not the host."""

    def __str__(self) -> str:
        is_plain = self.kind in (Kind.QMP, Kind.QMON)
        return str(self.place) if is_plain else f"{self.kind.value}:{self.place}"

    @property
    def socket(self) -> Socket:
        """The address of a kind that is reached by a socket."""
        assert not isinstance(self.place, Domain | Qmon)
        return self.place

    @property
    def is_lasting(self) -> bool:
        """Whether it can be connected to again: an inherited socket is there once."""
        return not isinstance(self.place, Descriptor)

    @property
    def short(self) -> str:
        """A few characters that tell it from others, for a prompt: a path's last part, or the address."""
        if isinstance(self.place, UnixAddress):
            return self.place.path.rpartition("/")[2]
        if isinstance(self.place, Domain):
            return self.place.name
        return str(self.place)


_WITHOUT_PATH = re.compile(r"[^/]+://[^/]*")
"""The beginning of a URI: libvirt's for QEMU have a path, ``/system`` or ``/session``."""

FORMS = "unix:PATH, HOST:PORT, fd:N, hmp:ADDRESS, libvirt:[URI/]DOMAIN or the name of a running qmon"


def parse_remote(text: str) -> RemoteAddress:
    """Read an argument of ``-connect``. Raises UsageError."""
    scheme, _, rest = text.partition(":")
    match scheme:
        case "hmp":
            return _by_socket(Kind.HMP, rest)
        case "libvirt":
            return RemoteAddress(Kind.LIBVIRT, _domain(rest))
    if text and not {":", "/"} & set(text):
        return RemoteAddress(Kind.QMON, Qmon(text))
    return _by_socket(Kind.QMP, text)


def _by_socket(kind: Kind, text: str) -> RemoteAddress:
    place = _socket(text)
    options = dict(each.partition("=")[::2] for each in text.split(",")[1:])
    creds, hostname = options.get("tls-creds"), options.get("tls-hostname")
    if creds is not None and not isinstance(place, InetAddress):
        raise UsageError("tls-creds is for HOST:PORT: a Unix socket has no TLS")
    if hostname is not None and creds is None:
        raise UsageError("tls-hostname is used with tls-creds only")
    return RemoteAddress(kind, place, creds, hostname)


def _domain(text: str) -> Domain:
    """Read ``[URI/]DOMAIN``: the last slash separates them, as no domain's name has one."""
    uri, slash, name = text.rpartition("/")
    if _WITHOUT_PATH.fullmatch(uri):
        uri, name = text, ""
    if slash and "://" not in f"{uri}/":
        raise UsageError(f"'{uri}' is no URI of libvirt: write libvirt:qemu:///system/DOMAIN, for example")
    return Domain(uri, name)


def _socket(text: str) -> Socket:
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
