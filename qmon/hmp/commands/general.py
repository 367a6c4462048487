"""The history, ``print`` and ``quit``."""

from __future__ import annotations

from qmon.hmp.commands.caution import confirm
from qmon.hmp.ending import cut_off
from qmon.hmp.handlers import Call, handler


@handler("hmp_quit", "quit")
async def quit_(call: Call) -> None:
    if call.person.interactive and (found := await cut_off(call.monitor.line_target)):
        for each in map(str, found):
            call.print(each[0].upper() + each[1:])
        await confirm(call, "Quit anyway?", "qmon keeps running")
    await call.execute("quit")
    call.monitor.quitting = True


@handler("hmp_info_history")
async def info_history(call: Call) -> None:
    for number, line in enumerate(call.person.history):
        call.print(f"{number}: '{line}'")


@handler("hmp_print")
async def print_(call: Call) -> None:
    value = int(call.values["val"])
    call.print(format_integer(value, call.text("format")))


def format_integer(value: int, format_: str) -> str:
    """Return a signed 64-bit value in ``print``'s format ``o``, ``x``, ``u``, ``c``, or else decimal."""
    unsigned = value & ((1 << 64) - 1)
    match format_:
        case "o":
            return f"0{unsigned:o}" if unsigned else "0"
        case "x":
            return f"{unsigned:#x}" if unsigned else "0"
        case "u":
            return str(unsigned)
        case "c":
            return f"'{_character(value & 0xFFFFFFFF)}'"
    return str(value)


def _character(code: int) -> str:
    special = {ord("'"): r"\'", ord("\\"): r"\\", 10: r"\n", 13: r"\r"}
    if code in special:
        return special[code]
    return chr(code) if 32 <= code <= 126 else f"\\x{code:02x}"
