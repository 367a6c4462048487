"""What is done to the media in devices: another size, another medium, limits."""

from __future__ import annotations

from typing import Any

from qmon.errors import CommandError
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError

_READ_ONLY_MODES = ("retain", "read-only", "read-write")


@handler("hmp_block_resize")
async def block_resize(call: Call) -> None:
    await call.execute("block_resize", {"device": call.text("device"), "size": call.values["size"]})


@handler("hmp_eject")
async def eject(call: Call) -> None:
    await call.execute("eject", {"device": call.text("device"), "force": call.flag("force")})


@handler("hmp_change")
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


@handler("hmp_block_set_io_throttle")
async def block_set_io_throttle(call: Call) -> None:
    limits = {name: call.values[name] for name in ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")}
    await call.execute("block_set_io_throttle", {"device": call.text("device"), **limits})
