"""Settings of the terminal: its key bindings, and whether it shows events."""

from __future__ import annotations

from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import AtTerminal, LineError

KEYS = ("emacs", "vi")


@handler("hmp_events")
async def events(call: Call) -> None:
    terminal = call.person if isinstance(call.person, AtTerminal) else None
    if "option" not in call.values:
        call.print(f"events: {'on' if terminal is not None and terminal.tells_events else 'off'}")
    elif terminal is not None:
        terminal.tells_events = call.flag("option")
    elif call.flag("option"):
        raise LineError("events: only a terminal shows events; programs receive them over QMP")


@handler("hmp_keys")
async def keys(call: Call) -> None:
    if not isinstance(call.person, AtTerminal):
        raise LineError("keys: only a terminal has key bindings")
    if "mode" not in call.values:
        call.print(f"keys: {call.person.keys}")
        return
    mode = call.text("mode")
    if mode not in KEYS:
        raise LineError(f"keys: expected {' or '.join(KEYS)}, found '{mode}'")
    call.person.keys = mode
