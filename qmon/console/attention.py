"""Calls the operator when a long migration has ended: by the bell, and by a notification of the desktop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from qmon.qmp.target import Event

LONG_SECONDS = 10.0
"""After a shorter migration the operator is still there."""

BELL = "\a"

_ENDS = {"completed": "The migration has completed", "failed": "The migration has failed"}
_DOUBT = "The migration is in doubt"

_PROGRAMS = {"iTerm.app": 9, "iTerm2": 9, "WezTerm": 777, "ghostty": 777}
"""By TERM_PROGRAM, or LC_TERMINAL, which ssh passes on: the command (OSC) that shows a notification."""

_TERMINALS = {"xterm-kitty": 777, "xterm-ghostty": 777, "foot": 777, "rxvt-unicode": 777}
"""The same by the beginning of TERM."""


def notification(text: str, environ: Mapping[str, str]) -> str:
    """Return the sequence that shows a text as a notification, "" if the terminal is not known to take one.

    Others might print it: the console of Linux, or a terminal within tmux or screen.
    """
    term = environ.get("TERM", "")
    if "TMUX" in environ or "STY" in environ or term.startswith(("tmux", "screen")):
        return ""
    code = _PROGRAMS.get(environ.get("TERM_PROGRAM") or environ.get("LC_TERMINAL", ""))
    code = code or next((code for start, code in _TERMINALS.items() if term.startswith(start)), None)
    match code:
        case 9:
            return f"\x1b]9;qmon: {text}\a"
        case 777:
            return f"\x1b]777;notify;qmon;{text}\a"
    return ""


class Attention:
    """Hears events, and sends the bell and the notification by ``send``, a function that writes as it is."""

    def __init__(
        self,
        send: Callable[[str], None],
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._environ = environ
        self._clock = clock
        self._begun: float | None = None
        self._status = ""

    def hear(self, event: Event) -> None:
        """Take notice of an event, and call the operator if it is the end of a long migration."""
        if event.name != "MIGRATION":
            return
        before, self._status = self._status, str(event.data.get("status", ""))
        if self._status == "setup":
            self._begun = self._clock()
        elif self._status in _ENDS:
            self._call(_ENDS[self._status])
            self._begun = None
        elif self._status == before == "device":  # told again: it is in doubt now
            self._call(_DOUBT)

    def _call(self, text: str) -> None:
        if self._begun is not None and self._clock() - self._begun >= LONG_SECONDS:
            self._send(BELL + notification(text, self._environ))
