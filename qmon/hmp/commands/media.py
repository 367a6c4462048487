"""Media in devices: changing their size, the medium itself, the limits."""

from __future__ import annotations

from typing import Any

from qmon.errors import CommandError
from qmon.hmp.commands.caution import confirm
from qmon.hmp.disks import as_device, find_disk
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError
from qmon.notation.units import human_size

_READ_ONLY_MODES = ("retain", "read-only", "read-write")


@handler("hmp_block_resize", "block_resize")
async def block_resize(call: Call) -> None:
    device, size = call.text("device"), int(call.values["size"])
    now = await _size(call, device) if call.person.interactive else None
    if now is not None and size < now:
        lost = f"'{device}' has {human_size(now)}; data after {human_size(size)} will be lost"
        await confirm(call, f"{lost}: shrink it anyway?", f"'{device}' was not resized")
    try:
        await call.execute("block_resize", {**as_device(call.monitor.target, device), "size": size})
    except CommandError as error:
        if "permissions 'resize'" in str(error):
            call.hint(f"An export keeps its size: 'info nbd' lists those of '{device}'; remove them first")
        raise


async def _size(call: Call, device: str) -> int | None:
    """Return a drive's size in bytes, None if the target does not report it."""
    disk = await find_disk(call.monitor.line_target, device)
    return None if disk is None else disk.size_bytes


@handler("hmp_eject", "eject")
async def eject(call: Call) -> None:
    await call.execute("eject", {"device": call.text("device"), "force": call.flag("force")})


@handler("hmp_change", "blockdev-change-medium")
async def change(call: Call) -> None:
    device, target = call.text("device"), call.text("target")
    if device == "vnc":
        if target not in ("passwd", "password"):
            raise LineError("Expected 'password' after 'vnc'")
        await call.execute("change-vnc-password", {"password": call.text("arg")})
        return
    arguments: dict[str, Any] = {"device": device, "filename": target, "force": call.flag("force")}
    if "read-only-mode" in call.values:
        mode = call.text("read-only-mode")
        if mode not in _READ_ONLY_MODES:
            raise CommandError(f"invalid parameter value: {mode}")
        arguments["read-only-mode"] = mode
    if "arg" in call.values:
        arguments["format"] = call.text("arg")
    await call.execute("blockdev-change-medium", arguments)


@handler("hmp_block_set_io_throttle", "block_set_io_throttle")
async def block_set_io_throttle(call: Call) -> None:
    limits = {name: call.values[name] for name in ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")}
    await call.execute("block_set_io_throttle", {"device": call.text("device"), **limits})
