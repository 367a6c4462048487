"""Networks: back ends, links and forwarded ports."""

from __future__ import annotations

from collections.abc import Mapping

from qmon.hmp.commands.devices import HELP_WORDS, show
from qmon.hmp.handlers import Call, handler


@handler("hmp_netdev_add")
async def netdev_add(call: Call) -> None:
    if call.has("human-monitor-command"):
        await call.pass_on("")  # QMP's options have types, which only the target's monitor can give them
    elif call.values.get("type") in HELP_WORDS:
        call.print("Available netdev backend types:")
    else:
        await call.execute("netdev_add", call.values)


@handler("hmp_netdev_del")
async def netdev_del(call: Call) -> None:
    await call.execute("netdev_del", {"id": call.text("id")})


@handler("hmp_set_link")
async def set_link(call: Call) -> None:
    await call.execute("set_link", {"name": call.text("name"), "up": call.values["up"]})


@handler("hmp_hostfwd_add")
async def hostfwd_add(call: Call) -> None:
    await _forwarding(call)


@handler("hmp_hostfwd_remove")
async def hostfwd_remove(call: Call) -> None:
    await _forwarding(call)


async def _forwarding(call: Call) -> None:
    if "arg2" in call.values:
        await call.pass_on(f"unrecognized netdev id '{call.text('arg1')}'")
    else:
        await call.pass_on("user mode network stack not in use")


@handler("hmp_info_network")
async def info_network(call: Call) -> None:
    await call.pass_on("", fails=False)


@handler("hmp_info_usernet")
async def info_usernet(call: Call) -> None:
    await call.pass_on("", fails=False)


@handler("hmp_rocker")
async def info_rocker(call: Call) -> None:
    await _rocker(call, "query-rocker")


@handler("hmp_rocker_ports")
async def info_rocker_ports(call: Call) -> None:
    await _rocker(call, "query-rocker-ports")


@handler("hmp_rocker_of_dpa_flows")
async def info_rocker_flows(call: Call) -> None:
    await _rocker(call, "query-rocker-of-dpa-flows", _number(call, "tbl_id", "tbl-id", 32))


@handler("hmp_rocker_of_dpa_groups")
async def info_rocker_groups(call: Call) -> None:
    await _rocker(call, "query-rocker-of-dpa-groups", _number(call, "type", "type", 8))


def _number(call: Call, key: str, name: str, bits: int) -> dict[str, int]:
    """An optional number under its QMP name, cut to its width as QEMU does."""
    return {name: int(call.values[key]) & ((1 << bits) - 1)} if key in call.values else {}


async def _rocker(call: Call, query: str, more: Mapping[str, int] | None = None) -> None:
    await show(call, query, {"name": call.text("name"), **(more or {})})
