"""The commands about character devices (QAPI: char.json)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from qmon.chardev.chardevs import Chardevs
from qmon.chardev.ringbuf import RingbufChardev
from qmon.errors import CommandError
from qmon.notation.chardev_options import KINDS
from qmon.qmp.registry import command
from qmon.qmp.schema import Uint32, check_members, check_value

Format = Literal["utf8", "base64"]


class UnixData(TypedDict):
    """QAPI: UnixSocketAddress."""

    path: str
    abstract: NotRequired[bool]
    tight: NotRequired[bool]


class InetData(TypedDict):
    """QAPI: InetSocketAddress."""

    host: str
    port: str
    numeric: NotRequired[bool]
    to: NotRequired[Uint32]
    ipv4: NotRequired[bool]
    ipv6: NotRequired[bool]


class StringData(TypedDict):
    """QAPI: String."""

    str: str


_ADDRESSES: dict[str, Any] = {"inet": InetData, "unix": UnixData, "fd": StringData}
"""The data of a SocketAddressLegacy by its type."""

_ADDRESS = object()
"""Stands for a SocketAddressLegacy in the table below."""

_COMMON = {"logfile": str, "logappend": bool}

_FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "file": ("out", {"in": str, "out": str, "append": bool}),
    "memory": ("", {"size": int}),
    "mux": ("chardev", {"chardev": str}),
    "null": ("", {}),
    "pipe": ("device", {"device": str}),
    "pty": ("", {}),
    "ringbuf": ("", {"size": int}),
    "socket": (
        "addr",
        {
            "addr": _ADDRESS,
            "tls-creds": str,
            "tls-authz": str,
            "server": bool,
            "wait": bool,
            "nodelay": bool,
            "telnet": bool,
            "tn3270": bool,
            "websocket": bool,
            "reconnect": int,
        },
    ),
    "stdio": ("", {"signal": bool}),
    "udp": ("remote", {"remote": _ADDRESS, "local": _ADDRESS}),
}
"""The data of a ChardevBackend by its type: what it must have, and what it may have."""


class ChardevCommands:
    """Commands of QAPI's char.json."""

    def __init__(self, chardevs: Chardevs) -> None:
        self._chardevs = chardevs

    @command("query-chardev")
    async def query(self) -> list[dict[str, Any]]:
        return [
            {"frontend-open": each.frontend_open, "filename": each.filename, "label": each.label}
            for each in self._chardevs
        ]

    @command("query-chardev-backends")
    async def query_backends(self) -> list[dict[str, str]]:
        return [{"name": kind} for kind in KINDS]

    @command("chardev-add")
    async def add(self, id: str, backend: dict[str, Any]) -> dict[str, Any]:
        """Make one; a server that is to wait for a client is complete when one has come."""
        kind, data = _check_backend(backend)
        self._chardevs.check_is_free(id)
        try:
            chardev = await self._chardevs.add(id, kind, data)
        except CommandError as error:
            raise CommandError(f"Failed to add chardev '{id}': {error}", error.error_class) from error
        return _made(chardev.filename)

    @command("chardev-change")
    async def change(self, id: str, backend: dict[str, Any]) -> dict[str, Any]:
        kind, data = _check_backend(backend)
        return _made((await self._chardevs.change(id, kind, data)).filename)

    @command("chardev-remove")
    async def remove(self, id: str) -> dict[str, Any]:
        await self._chardevs.remove(id)
        return {}

    @command("chardev-send-break")
    async def send_break(self, id: str) -> dict[str, Any]:
        """None of the kinds here has a line that could be broken."""
        self._chardevs.get(id)
        return {}

    @command("ringbuf-write")
    async def ringbuf_write(self, device: str, data: str, format: Format = "utf8") -> dict[str, Any]:
        ring = self._ring(device)
        if format == "base64":
            ring.write(_decode(data))
        else:
            ring.write(data.encode("utf-8", "surrogateescape"))
        return {}

    @command("ringbuf-read")
    async def ringbuf_read(self, device: str, size: int, format: Format = "utf8") -> str:
        """Text ends at a null byte, as in QEMU; what is no UTF-8 is replaced."""
        ring = self._ring(device)
        if size <= 0:
            raise CommandError("size must be greater than zero")
        data = ring.read(size)
        if format == "base64":
            return base64.b64encode(data).decode()
        return data.partition(b"\0")[0].decode("utf-8", "replace")

    def _ring(self, device: str) -> RingbufChardev:
        chardev = self._chardevs.find(device)
        if chardev is None:
            raise CommandError(f"Device '{device}' not found")
        if not isinstance(chardev, RingbufChardev):
            raise CommandError(f"{device} is not a ringbuf device")
        return chardev


def _decode(text: str) -> bytes:
    """Base64 as GLib reads it: what is left over at the end is dropped. Raises CommandError."""
    digits = re.sub(r"\s", "", text)
    try:
        if re.fullmatch(r"[A-Za-z0-9+/=]*", digits) is None:
            raise ValueError(text)
        return base64.b64decode(digits[: len(digits) // 4 * 4], validate=True)
    except ValueError as error:
        raise CommandError("Base64 data contains invalid characters") from error


def _made(filename: str) -> dict[str, Any]:
    """QAPI's ChardevReturn."""
    kind, _, path = filename.partition(":")
    return {"pty": path} if kind == "pty" else {}


def _check_backend(backend: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind and the data of a ChardevBackend. Raises CommandError."""
    kind = _type_of(backend, "backend")
    if kind not in _FIELDS:
        raise CommandError(f"Parameter 'type' does not accept value '{kind}'")
    check_members(backend, {"type": str, "data": dict}, frozenset({"type", "data"}), "backend.")
    required, fields = _FIELDS[kind]
    data = backend["data"]
    addresses = [name for name, field in fields.items() if field is _ADDRESS]
    plain = {name: Any if field is _ADDRESS else field for name, field in fields.items()}
    check_members(data, _COMMON | plain, frozenset(filter(None, [required])), "backend.data.")
    for name in addresses:
        if name in data:
            _check_address(data[name], f"backend.data.{name}")
    return kind, data


def _type_of(union: Mapping[str, Any], path: str) -> str:
    """What a union says that it is: looked at before all else. Raises CommandError."""
    given = {name: value for name, value in union.items() if name == "type"}
    check_members(given, {"type": str}, frozenset({"type"}), f"{path}.")
    return str(given["type"])


def _check_address(address: Any, path: str) -> None:
    """A SocketAddressLegacy. Raises CommandError."""
    check_value(address, dict, path)
    kind = _type_of(address, path)
    if kind not in _ADDRESSES:
        raise CommandError(f"Parameter 'type' does not accept value '{kind}'")
    check_members(address, {"type": str, "data": dict}, frozenset({"type", "data"}), f"{path}.")
    check_value(address["data"], _ADDRESSES[kind], f"{path}.data")
