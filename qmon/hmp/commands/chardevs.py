"""Character devices: creating, changing and removing them; reading and writing ring buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError
from qmon.notation.chardev_options import (
    BadOptionError,
    ChardevOptions,
    parse_backend,
    parse_chardev,
)

_ESCAPED = "\\"


@handler("hmp_chardev_add", "chardev-add")
async def chardev_add(call: Call) -> None:
    text = call.text("args")
    if "help" in (text.partition(",")[0], text.partition(",")[0].removeprefix("backend=")):
        call.print("Available chardev backend types: ")
        for backend in await call.execute("query-chardev-backends"):
            call.print(f"  {backend['name']}")
        return
    options = _parse(call, lambda: parse_chardev(text, call.print))
    if not options.mux:
        await _add(call, options.id, options.kind, options.data)
        return
    base = f"{options.id}-base"
    await _add(call, base, options.kind, options.data)
    try:
        await _add(call, options.id, "mux", {"chardev": base})
    except CommandError:
        await call.execute("chardev-remove", {"id": base})
        raise


async def _add(call: Call, label: str, kind: str, data: dict[str, Any]) -> None:
    """Create a device. Raises CommandError with HMP's message, which differs from QMP's."""
    try:
        made = await call.execute("chardev-add", {"id": label, "backend": {"type": kind, "data": data}})
    except CommandError as error:
        desc = str(error).removeprefix(f"Failed to add chardev '{label}': ")
        if desc == f"Chardev with id '{label}' already exists":
            desc = f"attempt to add duplicate property '{label}' to object (type 'container')"
        raise CommandError(desc, error.error_class) from error
    _tell_pty(call, label, made)


def _tell_pty(call: Call, label: str, made: dict[str, Any]) -> None:
    if "pty" in made:
        call.print(f"char device redirected to {made['pty']} (label {label})")


def _parse(call: Call, parse: Callable[[], ChardevOptions]) -> ChardevOptions:
    """Return the options that ``parse`` reads. Raises LineError or CommandError."""
    try:
        return parse()
    except BadOptionError as error:
        said = f"{error}\n" if str(error) else ""
        raise LineError(f"{said}Error: Parsing chardev args failed") from error
    except UsageError as error:
        raise CommandError(str(error)) from error


@handler("hmp_chardev_change", "chardev-change")
async def chardev_change(call: Call) -> None:
    label = call.text("id")
    options = _parse(call, lambda: parse_backend(call.text("args"), label, call.print))
    backend = {"type": options.kind, "data": options.data}
    _tell_pty(call, label, await call.execute("chardev-change", {"id": label, "backend": backend}))


@handler("hmp_chardev_remove", "chardev-remove")
async def chardev_remove(call: Call) -> None:
    await call.execute("chardev-remove", {"id": call.text("id")})


@handler("hmp_chardev_send_break", "chardev-send-break")
async def chardev_send_break(call: Call) -> None:
    await call.execute("chardev-send-break", {"id": call.text("id")})


@handler("hmp_ringbuf_write", "ringbuf-write")
async def ringbuf_write(call: Call) -> None:
    await call.execute("ringbuf-write", {"device": call.text("device"), "data": call.text("data")})


@handler("hmp_ringbuf_read", "ringbuf-read")
async def ringbuf_read(call: Call) -> None:
    data = await call.execute("ringbuf-read", {"device": call.text("device"), "size": call.values["size"]})
    call.print("".join(map(_shown, data)))


def _shown(character: str) -> str:
    """Return a character as QEMU shows it: a backslash is doubled, an unprintable one is its code."""
    if character == _ESCAPED:
        return _ESCAPED * 2
    if (character < " " and character not in "\n\t") or character == "\x7f":
        return f"{_ESCAPED}u{ord(character):04X}"
    return character


@handler("hmp_info_chardev", "query-chardev")
async def info_chardev(call: Call) -> None:
    for chardev in await call.execute("query-chardev"):
        call.print(f"{chardev['label']}: filename={chardev['filename']}")
