"""Keeps drives still while something is done to their images."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from qmon.errors import CommandError
from qmon.machine.drive import Drive
from qmon.machine.machine import Machine

DRAIN_SECONDS = 10.0


@contextlib.asynccontextmanager
async def holding(machine: Machine, drives: Sequence[Drive], what: str) -> AsyncIterator[None]:
    """Have the requests of drives wait, and nothing else change them, while ``what`` is done.

    Raises CommandError for a drive that something else holds, whose image is not open here, or whose requests
    don't end.
    """
    with contextlib.ExitStack() as undo:
        for drive in drives:
            await machine.wake(drive)
            undo.enter_context(machine.changing(drive, what))
            if not drive.is_active:
                raise CommandError(f"The images are not open here (the machine is '{machine.state.value}')")
        for drive in drives:
            if not await machine.blocking(drive.gate.close, what, DRAIN_SECONDS):
                raise CommandError(f"drive '{drive.id}': a request did not finish within {DRAIN_SECONDS:g} s")
            undo.callback(drive.gate.open, what)
        yield
