"""Guest memory and I/O ports: looking at them and saving them, on a machine that has none."""

from __future__ import annotations

from typing import Any

from qmon.errors import CommandError
from qmon.hmp.handlers import Call, handler
from qmon.notation.units import MIB

NO_DUMP_WITHOUT_CPU = "Can not dump without CPU"

_PORT_SIZES = {2: "w", 4: "l"}
"""The letters of port accesses by their size in bytes; all others are of one byte, ``b``."""

_PORTS = 0x10000
_UINT32 = 1 << 32
_UINT64 = 1 << 64

_DUMP_FORMATS = {"zlib": "kdump-zlib", "lzo": "kdump-lzo", "snappy": "kdump-snappy", "windmp": "win-dmp"}

_ADDRESS_SPACES = """\
address-space: memory
  0000000000000000-ffffffffffffffff (prio 0, i/o): system{owner}

address-space: I/O
  0000000000000000-000000000000ffff (prio 0, i/o): io{owner}
"""
_FLAT_VIEWS = """\
FlatView #0
 AS "memory", root: system
 Root memory region: (none)
  No rendered FlatView

FlatView #1
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-000000000000ffff (prio 0, i/o): io{owner}
"""
_OWNER = " parent:{obj path=/machine/unattached}"

_DISPATCH_LEVELS = 6
_DISPATCH_ENTRIES = 512
_DISPATCH_PAGES = 16
"""The I/O space's pages of 4 KiB."""


@handler("hmp_memory_dump")
async def memory_dump(call: Call) -> None:
    await call.pass_on(NO_DUMP_WITHOUT_CPU)


@handler("hmp_physical_memory_dump")
async def physical_memory_dump(call: Call) -> None:
    if call.text("format") == "i":
        await call.pass_on(NO_DUMP_WITHOUT_CPU)
    elif 0 < int(call.values["count"]) * int(call.values["size"]) % _UINT32 < _UINT32 // 2:
        await call.pass_on(f"{_unsigned(call, 'addr'):016x}: Cannot access memory")
    else:
        await call.pass_on("", fails=False)  # to QEMU, whose length has 32 bits, nothing is to be shown


@handler("hmp_gpa2hva")
async def gpa2hva(call: Call) -> None:
    await call.pass_on(f"No memory is mapped at address {_unsigned(call, 'addr'):#x}")


handler("hmp_gpa2hpa")(gpa2hva)


@handler("hmp_gva2gpa")
async def gva2gpa(call: Call) -> None:
    await call.pass_on("No cpu")


def _unsigned(call: Call, key: str) -> int:
    return int(call.values[key]) % _UINT64


@handler("hmp_ioport_read")
async def ioport_read(call: Call) -> None:
    port = int(call.values["addr"]) % _PORTS
    size = int(call.values["size"])
    if "index" in call.values:
        port = (port + 1) % _PORTS
    await call.pass_on(format_port(port, size), fails=False)


def format_port(port: int, size: int) -> str:
    """What ``i`` prints for a port at which there is nothing: all its bits are set.

    ``size`` is what the format says, in bytes; where a port has no access of that size it is one byte, shown
    in as many digits as the size has; -1 is an instruction's.
    """
    letter = _PORT_SIZES.get(size, "b")
    value = (1 << 8 * (size if letter != "b" else 1)) - 1
    return f"port{letter}[0x{port:04x}] = 0x{value:0{max(size * 2, 0)}x}"


@handler("hmp_ioport_write")
async def ioport_write(call: Call) -> None:
    await call.pass_on("", fails=False)


@handler("hmp_sum")
async def sum_(call: Call) -> None:
    await call.pass_on("00000", fails=False)


@handler("hmp_pmemsave")
async def pmemsave(call: Call) -> None:
    values = call.values
    arguments = {"val": values["val"], "size": values["size"], "filename": values["filename"]}
    await call.execute("pmemsave", arguments)


@handler("hmp_dump_guest_memory")
async def dump_guest_memory(call: Call) -> None:
    formats = [format_ for flag, format_ in _DUMP_FORMATS.items() if call.flag(flag)]
    if len(formats) > 1:
        raise CommandError("only one of '-z|-l|-s|-w' can be set")
    arguments: dict[str, Any] = {
        "paging": call.flag("paging"),
        "protocol": f"file:{call.text('filename')}",
        "detach": call.flag("detach"),
        "format": formats[0] if formats else "elf",
    }
    arguments.update({key: call.values[key] for key in ("begin", "length") if key in call.values})
    await call.execute("dump-guest-memory", arguments)


@handler("hmp_info_dump")
async def info_dump(call: Call) -> None:
    dump = await call.execute("query-dump")
    call.print(f"Status: {dump['status']}")
    if dump["status"] == "active":
        percent = 100.0 * dump["completed"] / max(dump["total"], 1)
        call.print(f"Finished: {percent:.2f} %")


@handler("hmp_dumpdtb")
async def dumpdtb(call: Call) -> None:
    filename = call.text("filename")
    await call.execute("dumpdtb", {"filename": filename})
    call.print(f"dtb dumped to {filename}")


@handler("hmp_balloon")
async def balloon(call: Call) -> None:
    value = int(call.values["value"]) % _UINT64  # as the size wraps in QEMU, where it is too large for it
    await call.execute("balloon", {"value": value - _UINT64 if value >> 63 else value})


@handler("hmp_info_balloon")
async def info_balloon(call: Call) -> None:
    info = await call.execute("query-balloon")
    call.print(f"balloon: actual={info['actual'] // MIB}")


@handler("hmp_info_memory_size_summary")
async def info_memory_size_summary(call: Call) -> None:
    summary = await call.execute_bare("query-memory-size-summary")
    call.print(f"base memory: {summary['base-memory']}")
    if "plugged-memory" in summary:
        call.print(f"plugged memory: {summary['plugged-memory']}")


@handler("hmp_info_mtree")
async def info_mtree(call: Call) -> None:
    flat, owner = call.flag("flatview"), _OWNER if call.flag("owner") else ""
    text = (_FLAT_VIEWS if flat else _ADDRESS_SPACES).format(owner=owner)
    if flat and call.flag("dispatch_tree"):
        text += _dispatch_tree()
    await call.pass_on(text, fails=False)


def _dispatch_tree() -> str:
    """How QEMU finds the region of an I/O port: a radix tree with one branch."""
    last = _DISPATCH_LEVELS - 1
    lines = [
        "  Dispatch",
        "    Physical sections",
        "      #0 @0000000000000000..ffffffffffffffff (noname) [unassigned]",
        "      #1 @0000000000000000..000000000000ffff io [not dirty] [ROOT]",
        f"    Nodes (9 bits per level, {_DISPATCH_LEVELS} levels) ptr=[{last}] skip={_DISPATCH_LEVELS}",
    ]
    for level in range(last):
        lines += [
            f"      [{level}]",
            f"\t  0       skip={last - level}  ptr=[{last}]",
            f"\t  1..{_DISPATCH_ENTRIES - 1}  skip=1  ptr=NIL",
        ]
    lines += [
        f"      [{last}]",
        f"\t  0..{_DISPATCH_PAGES - 1}   skip=0  ptr=#1",
        f"\t {_DISPATCH_PAGES}..{_DISPATCH_ENTRIES - 1}  skip=0  ptr=#0",
        "",
    ]
    return "\n".join(lines)
