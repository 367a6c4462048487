"""The commands of character devices (QAPI: char.json)."""

from __future__ import annotations

import base64
import re
from typing import Any

from qmon.chardev.chardevs import Chardevs
from qmon.chardev.ringbuf import RingbufChardev
from qmon.errors import CommandError
from qmon.notation.chardev_options import KINDS
from qmon.qmp.registry import command


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
        """Create a character device. A server with ``wait`` is ready when its first client has connected."""
        kind, data = backend["type"], backend["data"]
        self._chardevs.check_is_free(id)
        try:
            chardev = await self._chardevs.add(id, kind, data)
        except CommandError as error:
            raise CommandError(f"Failed to add chardev '{id}': {error}", error.error_class) from error
        return _made(chardev.filename)

    @command("chardev-change")
    async def change(self, id: str, backend: dict[str, Any]) -> dict[str, Any]:
        kind, data = backend["type"], backend["data"]
        return _made((await self._chardevs.change(id, kind, data)).filename)

    @command("chardev-remove")
    async def remove(self, id: str) -> dict[str, Any]:
        await self._chardevs.remove(id)
        return {}

    @command("chardev-send-break")
    async def send_break(self, id: str) -> dict[str, Any]:
        """Check the id; a break has no effect on any supported kind."""
        self._chardevs.get(id)
        return {}

    @command("ringbuf-write")
    async def ringbuf_write(self, device: str, data: str, format: str = "utf8") -> dict[str, Any]:
        ring = self._ring(device)
        if format == "base64":
            ring.write(_decode(data))
        else:
            ring.write(data.encode("utf-8", "surrogateescape"))
        return {}

    @command("ringbuf-read")
    async def ringbuf_read(self, device: str, size: int, format: str = "utf8") -> str:
        """Return the oldest ``size`` bytes. Text ends at a null byte, as in QEMU; bad UTF-8 is replaced."""
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
    """Decode base64 as GLib does: an incomplete group at the end is dropped. Raises CommandError."""
    digits = re.sub(r"\s", "", text)
    try:
        if re.fullmatch(r"[A-Za-z0-9+/=]*", digits) is None:
            raise ValueError(text)
        return base64.b64decode(digits[: len(digits) // 4 * 4], validate=True)
    except ValueError as error:
        raise CommandError("Base64 data contains invalid characters") from error


def _made(filename: str) -> dict[str, Any]:
    """Return a ChardevReturn (QAPI)."""
    kind, _, path = filename.partition(":")
    return {"pty": path} if kind == "pty" else {}
