"""Devices: adding, removing, and what there is of them."""

from __future__ import annotations

from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError
from qmon.qmp.target import Arguments

HELP_WORDS = ("help", "?")
UINT16_MAX = (1 << 16) - 1


@handler("hmp_device_add")
async def device_add(call: Call) -> None:
    if call.has("human-monitor-command"):
        await call.pass_on("")  # QMP's properties have types, which only the target's monitor can give them
        return
    driver = call.values.get("driver")
    if driver in HELP_WORDS:
        return
    if driver is not None and any(word in call.values for word in HELP_WORDS):
        raise LineError(f"Device '{driver}' not found")
    await call.execute("device_add", call.values)


@handler("hmp_device_del")
async def device_del(call: Call) -> None:
    await call.execute("device_del", {"id": call.text("id")})


@handler("hmp_pcie_aer_inject_error")
async def pcie_aer_inject_error(call: Call) -> None:
    await call.pass_on(f"id or pci device path is invalid or device not found. {call.text('id')}")


@handler("hmp_xen_event_inject")
async def xen_event_inject(call: Call) -> None:
    await show(call, "xen-event-inject", {"port": call.values["port"]})


@handler("hmp_xen_event_list")
async def xen_event_list(call: Call) -> None:
    await show(call, "xen-event-list")


async def show(call: Call, query: str, arguments: Arguments | None = None, nothing: str = "") -> None:
    """Answer what the target's own monitor says.

    A target without one has nothing of the kind: ``query`` fails and says so, or ``nothing`` does.
    """
    if not call.has("human-monitor-command"):
        await call.execute(query, arguments)
    await call.pass_on(nothing, fails=False)


@handler("hmp_info_qtree")
async def info_qtree(call: Call) -> None:
    await call.pass_on("bus: main-system-bus\n  type System", fails=False)


@handler("hmp_info_qdm")
async def info_qdm(call: Call) -> None:
    await call.pass_on("", fails=False)


@handler("hmp_info_usbhost")
async def info_usbhost(call: Call) -> None:
    await call.pass_on("", fails=False)


@handler("hmp_info_pci")
async def info_pci(call: Call) -> None:
    await show(call, "query-pci")


@handler("hmp_virtio_query")
async def info_virtio(call: Call) -> None:
    await show(call, "x-query-virtio", nothing="No VirtIO devices")


@handler("hmp_virtio_status")
async def info_virtio_status(call: Call) -> None:
    await show(call, "x-query-virtio-status", {"path": call.text("path")})


@handler("hmp_virtio_queue_status")
async def info_virtio_queue_status(call: Call) -> None:
    await show(call, "x-query-virtio-queue-status", _queue(call))


@handler("hmp_vhost_queue_status")
async def info_virtio_vhost_queue_status(call: Call) -> None:
    await show(call, "x-query-virtio-vhost-queue-status", _queue(call))


@handler("hmp_virtio_queue_element")
async def info_virtio_queue_element(call: Call) -> None:
    arguments = _queue(call)
    if "index" in call.values:
        arguments["index"] = int(call.values["index"]) & UINT16_MAX
    await show(call, "x-query-virtio-queue-element", arguments)


def _queue(call: Call) -> dict[str, object]:
    """The device's path and the queue's number, which QEMU cuts to its width."""
    return {"path": call.text("path"), "queue": int(call.values["queue"]) & UINT16_MAX}
