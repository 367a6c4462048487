"""Holds the requests of drives while their images are changed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from qmon.errors import CommandError
from qmon.machine.drive import Drive
from qmon.machine.machine import Machine
from qmon.machine.media import wake

DRAIN_SECONDS = 10.0


@contextlib.asynccontextmanager
async def holding(machine: Machine, drives: Sequence[Drive], what: str) -> AsyncIterator[None]:
    """Hold the requests of drives, and keep other commands from changing them, while ``what`` is done.

    Raises CommandError if a drive is busy, its image is not open here, or its requests don't finish.
    """
    with contextlib.ExitStack() as undo:
        for drive in drives:
            await wake(machine, drive)
            undo.enter_context(machine.use.changing(drive, what))
            if not drive.is_active:
                raise CommandError(
                    f"drive '{drive.id}': its image is not open here (the machine is '{machine.state.value}')"
                )
        for drive in drives:
            if not await machine.blocking(drive.gate.close, what, DRAIN_SECONDS):
                raise CommandError(f"drive '{drive.id}': a request did not finish within {DRAIN_SECONDS:g} s")
            undo.callback(drive.gate.open, what)
        yield
