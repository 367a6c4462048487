"""The commands around objects (QAPI: qom.json)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, DeviceNotFoundError, UsageError
from qmon.machine.machine import Machine
from qmon.machine.machine_tree import MACHINE_PROPERTIES, MACHINE_TYPE
from qmon.machine.memory_backend import MemoryBackend
from qmon.machine.object_types import CLASSES, IoThread
from qmon.machine.qom import CONTAINER, Node
from qmon.machine.user_object import UserObject
from qmon.notation.keyval import is_identifier
from qmon.notation.object_options import (
    CREATABLE,
    NAMED_ONLY,
    TYPES,
    read_object,
    shown_properties,
)
from qmon.notation.visit import Form
from qmon.qmp.registry import command

USER_CREATABLE = "user-creatable"

_ABSTRACT_TYPES = {
    "authz": "object",
    "event-loop-base": "object",
    "memory-backend": "object",
    "rng-backend": "object",
    "secret_common": "object",
    "tls-creds": "object",
}
_OTHER_TYPES = {CONTAINER: "object", MACHINE_TYPE: "machine", "memory-region": "object", "System": "bus"}


class ObjectCommands:
    """Objects come, go, and are looked at."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.tree = machine.qom

    @command("object-add")
    async def object_add(self, /, **options: Any) -> dict[str, Any]:
        """Make an object. What it opens is opened away from the loop; until then it is not complete."""
        try:
            arguments = read_object(options, Form.JSON)
        except UsageError as error:
            raise CommandError(str(error)) from error
        type_name, id = arguments.pop("qom-type"), arguments.pop("id")
        if not is_identifier(id):
            raise CommandError("Parameter 'id' expects an identifier")
        node = self._make(type_name)
        for name, value in arguments.items():
            node.set(name, value)
        self.tree.objects.add(id, node)
        try:
            node.check()
            await self._machine.blocking(node.complete)
        except BaseException:
            self.tree.objects.remove(id)
            self.tree.objects.children.shrink()  # QEMU takes away by its name what it could not complete
            raise
        node.completed = True
        return {}

    def _make(self, type_name: str) -> UserObject:
        if type_name in NAMED_ONLY:
            raise CommandError(f"invalid object type: {type_name}")
        absent = TYPES[type_name].absent
        if absent:
            desc = f"object type '{type_name}' is not supported: this machine has no {absent}"
            raise CommandError(desc)
        return CLASSES[type_name](type_name, self.tree)

    @command("object-del")
    async def object_del(self, id: str) -> dict[str, Any]:
        node = self.tree.objects.children.get(id)
        if node is None:
            raise CommandError(f"object '{id}' not found")
        if isinstance(node, UserObject) and (node.is_in_use or not node.completed):
            raise CommandError(f"object '{id}' is in use, can not be deleted")
        self.tree.objects.remove(id)
        return {}

    @command("qom-list")
    async def qom_list(self, path: str) -> list[dict[str, str]]:
        return self.tree.resolve(path).listing()

    @command("qom-get")
    async def qom_get(self, path: str, property: str) -> Any:
        return self._only(path).get(property)

    @command("qom-set")
    async def qom_set(self, path: str, property: str, value: Any) -> dict[str, Any]:
        self._only(path).set(property, value)
        return {}

    def _only(self, path: str) -> Node:
        """As QEMU does here: an ambiguous path leads nowhere."""
        try:
            return self.tree.resolve(path)
        except CommandError as error:
            raise DeviceNotFoundError(path) from error

    @command("qom-list-types")
    async def qom_list_types(
        self, implements: str | None = None, abstract: bool | None = None
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [
            {"name": name, "parent": parent} for name, parent in _OTHER_TYPES.items()
        ]
        found += [{"name": name, "parent": TYPES[name].parent} for name in CREATABLE]
        if abstract:
            found += [
                {"abstract": True, "name": name, "parent": parent} for name, parent in _ABSTRACT_TYPES.items()
            ]
        return [row for row in found if implements is None or _implements(row, implements)]

    @command("qom-list-properties")
    async def qom_list_properties(self, typename: str) -> list[dict[str, str]]:
        properties = [{"name": "type", "type": "string"}]
        if typename in CREATABLE:
            shown = shown_properties(typename)
            return properties + [{"name": name, "type": type_} for name, (type_, _) in shown.items()]
        if typename == MACHINE_TYPE:
            return properties + [{"name": name, "type": type_} for name, type_, _ in MACHINE_PROPERTIES]
        if typename not in _OTHER_TYPES:
            raise CommandError(f"Class '{typename}' not found", DeviceNotFoundError.error_class)
        return properties

    @command("query-memdev")
    async def query_memdev(self) -> list[dict[str, Any]]:
        nodes = list(self.tree.objects.children.values())[::-1]
        return [node.describe() for node in nodes if isinstance(node, MemoryBackend) and node.completed]

    @command("query-iothreads")
    async def query_iothreads(self) -> list[dict[str, Any]]:
        nodes = self.tree.objects.children.values()
        return [node.describe() for node in nodes if isinstance(node, IoThread) and node.completed]


def _implements(row: Mapping[str, Any], wanted: str) -> bool:
    if wanted in ("object", row["name"], row["parent"]):
        return True
    return wanted == USER_CREATABLE and row["name"] in CREATABLE
