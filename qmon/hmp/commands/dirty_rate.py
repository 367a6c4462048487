"""How fast a guest writes its memory: measuring that, and limiting it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError

_SEE_LIMIT = "[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]"


@handler("hmp_calc_dirty_rate")
async def calc_dirty_rate(call: Call) -> None:
    seconds, samples = call.values["second"], call.values.get("sample_pages_per_GB", -1)
    if not seconds:
        raise LineError("Incorrect period length specified!")
    if call.flag("dirty_ring") and call.flag("dirty_bitmap"):
        raise LineError("Either dirty ring or dirty bitmap can be specified!")
    mode = "page-sampling"
    if call.flag("dirty_ring"):
        mode = "dirty-ring"
    elif call.flag("dirty_bitmap"):
        mode = "dirty-bitmap"
    arguments: dict[str, Any] = {"calc-time": seconds, "mode": mode}
    if samples != -1:
        arguments["sample-pages"] = samples
    await call.execute("calc-dirty-rate", arguments)
    call.print(f"Starting dirty rate measurement with period {seconds} seconds")
    call.print("[Please use 'info dirty_rate' to check results]")


@handler("hmp_info_dirty_rate")
async def info_dirty_rate(call: Call) -> None:
    for line in dirty_rate_lines(await call.execute("query-dirty-rate")):
        call.print(line)


def dirty_rate_lines(info: Mapping[str, Any]) -> Iterator[str]:
    """The lines for a DirtyRateInfo (qapi/migration.json)."""
    yield f"Status: {info['status']}"
    yield f"Start Time: {info['start-time']} (ms)"
    if info["mode"] == "dirty-ring":
        yield "Sample Pages: N/A" if "sample-pages" not in info else f"Sample Pages: {info['sample-pages']}"
    else:
        yield f"Sample Pages: {info.get('sample-pages', 0)} (per GB)"
    yield f"Period: {info['calc-time']} (sec)"
    yield f"Mode: {info['mode']}"
    if "dirty-rate" not in info:
        yield "Dirty rate: (not ready)"
        return
    yield f"Dirty rate: {info['dirty-rate']} (MB/s)"
    for each in info.get("vcpu-dirty-rate", []):
        yield f"vcpu[{each['id']}], Dirty rate: {each['dirty-rate']} (MB/s)"


@handler("hmp_set_vcpu_dirty_limit")
async def set_vcpu_dirty_limit(call: Call) -> None:
    await call.execute("set-vcpu-dirty-limit", {"dirty-rate": call.values["dirty_rate"], **_processor(call)})
    call.print(_SEE_LIMIT)


@handler("hmp_cancel_vcpu_dirty_limit")
async def cancel_vcpu_dirty_limit(call: Call) -> None:
    await call.execute("cancel-vcpu-dirty-limit", _processor(call))
    call.print(_SEE_LIMIT)


def _processor(call: Call) -> dict[str, Any]:
    """The one that is meant; without it, or with -1, all are."""
    index = call.values.get("cpu_index", -1)
    return {} if index == -1 else {"cpu-index": index}


@handler("hmp_info_vcpu_dirty_limit")
async def info_vcpu_dirty_limit(call: Call) -> None:
    limits = await call.execute("query-vcpu-dirty-limit")
    if not limits:
        call.print("Dirty page limit not enabled!")
    for each in limits:
        call.print(
            f"vcpu[{each['cpu-index']}], limit rate {each['limit-rate']} (MB/s),"
            f" current rate {each['current-rate']} (MB/s)"
        )
