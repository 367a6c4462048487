"""All character devices of a process, by their labels."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from qmon.chardev.base import Chardev, Create, TakeDescriptor, create_file, no_descriptor
from qmon.chardev.secure import FindSecurity, no_objects
from qmon.errors import CommandError, reason
from qmon.host.exposure import Exposure
from qmon.notation.chardev_options import ChardevOptions

KINDS = {
    "file": ("files", "FileChardev"),
    "memory": ("ringbuf", "MemoryChardev"),
    "mux": ("mux", "MuxChardev"),
    "null": ("files", "NullChardev"),
    "pipe": ("files", "PipeChardev"),
    "pty": ("files", "PtyChardev"),
    "ringbuf": ("ringbuf", "RingbufChardev"),
    "socket": ("sockets", "SocketChardev"),
    "stdio": ("files", "StdioChardev"),
    "udp": ("files", "UdpChardev"),
}
"""The module and class of each kind; the module is imported when it is first needed."""


class Chardevs:
    """The character devices by label. ``create`` opens files for writing, ``named`` takes a descriptor that a
    QMP client has passed.
    """

    def __init__(
        self,
        create: Create = create_file,
        named: TakeDescriptor = no_descriptor,
        exposure: Exposure | None = None,
        find_security: FindSecurity = no_objects,
    ) -> None:
        self._by_label: dict[str, Chardev] = {}
        self._create = create
        self._named = named
        self._exposure = exposure or Exposure()
        self._find_security = find_security
        self._being_made: set[str] = set()

    def __iter__(self) -> Iterator[Chardev]:
        return iter(list(self._by_label.values()))

    def find(self, label: str) -> Chardev | None:
        return self._by_label.get(label)

    def get(self, label: str) -> Chardev:
        """Return the device with this label. Raises CommandError."""
        chardev = self._by_label.get(label)
        if chardev is None:
            raise CommandError(f"Chardev '{label}' not found")
        return chardev

    def check_is_free(self, label: str) -> None:
        """Raises CommandError if the label is in use."""
        if label in self._by_label or label in self._being_made:
            raise CommandError(f"Chardev with id '{label}' already exists")

    async def add(
        self, label: str, kind: str, data: Mapping[str, Any], *, may_inherit: bool = False
    ) -> Chardev:
        """Make a character device of one of ``KINDS`` and open it. Raises CommandError.

        ``find`` finds it when it is open; a server with ``wait=on`` is, when its first client has connected.
        ``may_inherit``: a socket's ``fd`` is the number of an inherited descriptor, not a name.
        """
        self.check_is_free(label)
        chardev = self._make(label, kind, data)
        if may_inherit:
            chardev.take_descriptor = take_inherited
        self._being_made.add(label)
        try:
            await chardev.open()
            self._by_label[label] = chardev
        except BaseException:
            self._unmake(chardev)
            await chardev.close()
            raise
        finally:
            self._being_made.discard(label)
        return chardev

    async def make(self, options: ChardevOptions) -> Chardev:
        """Make the device that a command-line option describes, with its multiplexer if any.

        Raises CommandError.
        """
        if not options.mux:
            return await self.add(options.id, options.kind, options.data, may_inherit=True)
        base = f"{options.id}-base"
        await self.add(base, options.kind, options.data, may_inherit=True)
        return await self.add(options.id, "mux", {"chardev": base})

    def reserve_stdio(self, label: str) -> None:
        """List standard input as a device without opening it: the console reads it. Raises CommandError."""
        self.check_is_free(label)
        chardev = self._make(label, "stdio", {})
        chardev.users += 1
        chardev.frontend_open = True
        self._by_label[label] = chardev

    async def remove(self, label: str) -> None:
        """Close and remove a device. Raises CommandError if it is in use or, as in QEMU, a multiplexer."""
        chardev = self.get(label)
        if chardev.users or chardev.kind == "mux":
            raise CommandError(f"Chardev '{label}' is busy")
        del self._by_label[label]
        await chardev.close()

    async def change(self, label: str, kind: str, data: Mapping[str, Any]) -> Chardev:
        """Replace a device that is not in use. Raises CommandError; then nothing has changed."""
        old = self._by_label.get(label)
        if old is None:
            raise CommandError(f"Chardev '{label}' does not exist")
        if old.kind == "mux":
            raise CommandError("Mux device hotswap not supported yet")
        if old.users:
            raise CommandError("Chardev user does not support chardev hotswap")
        new = self._make(label, kind, data)
        await new.open()
        self._by_label[label] = new
        await old.close()
        return new

    async def close(self) -> None:
        """Close all devices."""
        await asyncio.gather(*(chardev.close() for chardev in self))
        self._by_label.clear()

    def _make(self, label: str, kind: str, data: Mapping[str, Any]) -> Chardev:
        if kind == "stdio" and any(each.kind == "stdio" for each in self):
            raise CommandError("cannot use stdio by multiple character devices")
        module, name = KINDS[kind]
        found = getattr(import_module(f"qmon.chardev.{module}"), name)
        if kind == "mux":
            base = self._by_label.get(data["chardev"])
            if base is None:
                raise CommandError(f"mux: base chardev {data['chardev']} not found")
            if base.users:
                raise CommandError(f"Device '{base.label}' is in use")
            chardev: Chardev = found(label, data, base)
        else:
            chardev = found(label, data)
        chardev.create = self._create
        chardev.take_descriptor = self._named
        chardev.exposure = self._exposure
        chardev.find_security = self._find_security
        return chardev

    def _unmake(self, chardev: Chardev) -> None:
        if chardev.kind == "mux":
            self.get(chardev.data["chardev"]).users -= 1


def take_inherited(number: str) -> int:
    """Take a descriptor that the process was started with, by its number. Raises CommandError.

    The process's own descriptors, and those that are taken already, are not inheritable.
    """
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise CommandError(f"Unable to parse FD number {number}")
    descriptor = int(number)
    try:
        is_free = os.get_inheritable(descriptor)
    except OSError as error:
        raise CommandError(f"File descriptor '{number}' is not open: {reason(error)}") from error
    if not is_free:
        raise CommandError(f"File descriptor '{number}' is in use")
    os.set_inheritable(descriptor, False)
    return descriptor
