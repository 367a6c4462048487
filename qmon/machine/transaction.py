"""Transactions: changes of several drives at one moment, all of them or none (QAPI: transaction.json)."""

from __future__ import annotations

from collections.abc import Sequence

from qmon.machine.drive import Drive
from qmon.machine.holding import holding
from qmon.machine.machine import Machine


class Action:
    """One change. The gates of its drives are closed from ``prepare`` to ``commit`` or ``abort``."""

    can_be_grouped = False
    """Whether it supports the property ``completion-mode`` with the value ``grouped``."""

    def drives(self) -> list[Drive]:
        """Return the drives that it uses, as far as they are there."""
        return []

    async def prepare(self) -> None:
        """Make the change. Raises CommandError; then nothing has changed."""

    async def commit(self) -> None:
        """Drop what only ``abort`` needs."""

    async def finish(self) -> None:
        """Do what is left once all is done and the gates are open again."""

    async def abort(self) -> None:
        """Undo the change, after ``prepare`` has made it."""


async def run_actions(machine: Machine, actions: Sequence[Action], what: str) -> None:
    """Run actions in order, while no guest's request is served; if one fails, undo those before it.

    ``what`` says to others what uses the drives. Raises CommandError.
    """
    drives = list(dict.fromkeys(drive for action in actions for drive in action.drives()))
    async with holding(machine, drives, what):
        done: list[Action] = []
        try:
            for action in actions:
                await action.prepare()
                done.append(action)
        except BaseException:
            for action in reversed(done):
                await action.abort()
            raise
        for action in actions:
            await action.commit()
    for action in actions:
        await action.finish()
