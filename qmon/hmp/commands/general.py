"""The history, ``print`` and ``quit``."""

from __future__ import annotations

from qmon.errors import CommandError
from qmon.hmp.commands.caution import confirm
from qmon.hmp.ending import broken_by_leaving, cut_off
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError


@handler("hmp_quit", "quit")
async def quit_(call: Call) -> None:
    await confirm_quit(call)
    call.monitor.quitting = True
    try:
        await call.execute("quit")
    except CommandError:
        call.monitor.quitting = False
        raise


async def confirm_quit(call: Call) -> None:
    """Ask a person before the end of what others use. Raises LineError if it is not to end."""
    if not call.person.interactive:
        return
    for each in map(str, found := await cut_off(call.monitor.line_target)):
        call.print(each[0].upper() + each[1:])
    connected_to = call.monitor.connected_to
    if connected_to:
        question = f"This ends the machine at {connected_to} (Ctrl-D leaves, and it goes on): end it?"
        await confirm(call, question, "The machine goes on")
    elif found:
        await confirm(call, "Quit anyway?", "qmon keeps running")


@handler("hmp_exit")
async def exit_(call: Call) -> None:
    if call.monitor.leave is None:
        raise LineError("exit: this monitor is the machine's own: 'quit' ends both")
    if call.person.interactive and (broken := await broken_by_leaving(call.monitor.target)):
        call.print(broken)
        await confirm(call, "Leave anyway?", "The console stays")
    call.monitor.quitting = True
    call.monitor.leave()


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
