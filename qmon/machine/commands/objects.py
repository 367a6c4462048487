"""Creates and deletes objects (QAPI: qom.json)."""

from __future__ import annotations

from typing import Any

from qmon.errors import CommandError
from qmon.machine.machine import Machine
from qmon.machine.object_types import CLASSES
from qmon.machine.throttle_group import ThrottleGroup
from qmon.notation.keyval import is_identifier
from qmon.notation.object_options import read_object
from qmon.notation.visit import Form
from qmon.qmp.registry import command


class ObjectCommands:
    """Keeps the machine's objects."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @command("object-add")
    async def object_add(self, /, **options: Any) -> dict[str, Any]:
        """Create an object. It can be used when its files have been read, which happens off the loop."""
        objects = self._machine.objects
        arguments = read_object(options, Form.JSON)
        type_name, id = arguments.pop("qom-type"), arguments.pop("id")
        if not is_identifier(id):
            raise CommandError("Parameter 'id' expects an identifier")
        if id in objects:
            raise CommandError(f"attempt to add duplicate property '{id}' to object (type 'container')")
        made = objects[id] = CLASSES[type_name](type_name, arguments)
        try:
            made.check(objects)
            if isinstance(made, ThrottleGroup):
                self._machine.throttle_groups.found(id, made)
            await self._machine.blocking(made.complete)
        except BaseException:
            del objects[id]
            raise
        made.completed = True
        return {}

    @command("object-del")
    async def object_del(self, id: str) -> dict[str, Any]:
        objects = self._machine.objects
        if id not in objects:
            raise CommandError(f"object '{id}' not found")
        if not objects[id].completed or self._machine.disks.uses_group(id):
            raise CommandError(f"object '{id}' is in use, can not be deleted")
        del objects[id]
        return {}

    @command("x-qmon-query-objects")
    async def query_objects(self) -> list[dict[str, Any]]:
        """Return all objects with their types."""
        return [{"id": id, "qom-type": made.type} for id, made in self._machine.objects.items()]
