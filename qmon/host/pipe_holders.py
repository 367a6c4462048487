"""Finds out whether a command can still write to its standard output, by proc(5).

A shell that runs ``gzip > FILE`` keeps its own standard output open until gzip has ended, so that the pipe
does not end, though nobody writes to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SAVED = 10
"""Shells keep descriptors that a redirection has replaced at this number or above."""

_PROC = Path("/proc")


def is_held(shell: int, reading: int) -> bool:
    """Whether a process of the session of ``shell``, its first process, may write to a pipe.

    ``reading`` is this process's end. In doubt it is held.
    """
    try:
        pipe = os.readlink(f"/proc/self/fd/{reading}")
        return any(
            link == pipe and (process != shell or number < SAVED)
            for process in _session(shell)
            for number, link in _descriptors(process)
        )
    except OSError:
        return True


def _session(leader: int) -> Iterator[int]:
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            text = (entry / "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if int(text.rpartition(")")[2].split()[3]) == leader:
            yield int(entry.name)


def _descriptors(process: int) -> Iterator[tuple[int, str]]:
    """Yield the numbers of a process's descriptors, and what they are. Raises PermissionError."""
    folder = _PROC / str(process) / "fd"
    try:
        for entry in folder.iterdir():
            yield int(entry.name), os.readlink(entry)
    except (FileNotFoundError, ProcessLookupError):
        return  # it has just ended, or closed one
