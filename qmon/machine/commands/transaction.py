"""The command ``transaction`` (QAPI: transaction.json)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.machine.bitmap_actions import AddBitmap, ClearBitmap, MergeBitmaps, RemoveBitmap, SwitchBitmap
from qmon.machine.commands.overlays import OverlayCommands
from qmon.machine.internal_snapshot_action import InternalSnapshot
from qmon.machine.machine import Machine
from qmon.machine.overlay_actions import SnapshotToFile
from qmon.machine.transaction import Action, run_actions
from qmon.qmp.registry import command
from qmon.qmp.schema import Binding

TRANSACTION = "transaction"
"""The user of a drive in messages about a busy drive."""


class Abort(Action):
    """Fails, so that the whole transaction is undone."""

    can_be_grouped = True

    async def prepare(self) -> None:
        raise CommandError("Transaction aborted using Abort action")


class _NotGrouped(Action):
    """Takes the place of an action that does not support the property ``completion-mode``."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def prepare(self) -> None:
        raise CommandError(
            f"Action '{self._name}' does not support Transaction property completion-mode = grouped"
        )


Make = Callable[..., Action]
"""Makes an action of a machine and the data of the transaction's entry, by parameter names."""


def _enable(machine: Machine, node: str, name: str) -> Action:
    return SwitchBitmap(machine, node, name, on=True)


def _disable(machine: Machine, node: str, name: str) -> Action:
    return SwitchBitmap(machine, node, name, on=False)


_ACTIONS: Mapping[str, Make] = {
    "abort": lambda machine: Abort(),
    "block-dirty-bitmap-add": AddBitmap,
    "block-dirty-bitmap-remove": RemoveBitmap,
    "block-dirty-bitmap-clear": ClearBitmap,
    "block-dirty-bitmap-enable": _enable,
    "block-dirty-bitmap-disable": _disable,
    "block-dirty-bitmap-merge": MergeBitmaps,
    "blockdev-snapshot-internal-sync": InternalSnapshot,
    "blockdev-snapshot-sync": SnapshotToFile,
}
"""By type of a transaction's action (QAPI: TransactionActionKind)."""


class TransactionCommands:
    """The actions are those commands that can be undone."""

    def __init__(self, machine: Machine, overlays: OverlayCommands) -> None:
        self._machine = machine
        self._make: Mapping[str, Make] = {
            **_ACTIONS,
            "blockdev-snapshot": lambda machine, node, overlay: overlays.to_node(node, overlay),
        }

    @command("transaction")
    async def transaction(
        self, actions: list[dict[str, Any]], properties: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run actions at one moment: no guest's request is served meanwhile. If one fails, all are undone."""
        is_grouped = properties is not None and properties.get("completion-mode") == "grouped"
        made = [self._action(each["type"], each["data"], is_grouped=is_grouped) for each in actions]
        await run_actions(self._machine, made, TRANSACTION)
        return {}

    def _action(self, name: str, data: Mapping[str, Any], *, is_grouped: bool) -> Action:
        make = self._make[name]
        action = make(self._machine, **Binding(make).bind(data))
        return _NotGrouped(name) if is_grouped and not action.can_be_grouped else action
