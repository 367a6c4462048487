"""The tree of the machine's objects, as QOM has it: nodes with typed properties, and paths to them.

Another part of the machine shows something of its own in the tree so::

    tree.add_child("/chardevs", "serial0", Node("chardev-null"))
    tree.add_child("/chardevs", "log", Node("chardev-ringbuf", {"size": Property("int", lambda: 65536)}))
    tree.remove_child("/chardevs", "log")

A container that is not there yet is made. A node may be a subclass that answers in its own way. Nodes are
used on the loop alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qmon.errors import CommandError, DeviceNotFoundError, UsageError
from qmon.machine.hash_order import HashOrdered
from qmon.notation.visit import Form, Kind

CONTAINER = "container"
OBJECTS = "/objects"
LINK = "link<"


@dataclass(frozen=True, slots=True)
class Property:
    """One property: the type that qom-list shows, how it is read and, where it can be, set.

    ``write`` gets a value that ``kind`` has read from JSON; it raises CommandError for what it does not take.
    ``refuse``, where there is one, is asked before the value is looked at, and raises too. A link's value is
    the path of the node it leads to, or "".
    """

    type: str
    read: Callable[[], Any]
    kind: Kind | None = None
    write: Callable[[Any], None] | None = None
    refuse: Callable[[], None] | None = None


class Node:
    """An object: its type, its own properties in QEMU's order, and its children in that of QEMU's table."""

    def __init__(self, type_name: str, properties: Mapping[str, Property] | None = None) -> None:
        self.type = type_name
        self.properties: dict[str, Property] = {"type": Property("string", lambda: type_name)}
        self.properties.update(properties or {})
        self.children: HashOrdered[Node] = HashOrdered()
        self.parent: Node | None = None
        self.name = ""

    @property
    def path(self) -> str:
        """The absolute path; of a node outside the tree, from its topmost one on."""
        if self.parent is None:
            return "/"
        return f"{self.parent.path.rstrip('/')}/{self.name}"

    def add(self, name: str, child: Node) -> Node:
        """Hang a node under this one. Raises CommandError when the name is taken."""
        if name in self.children or name in self.properties:
            desc = f"attempt to add duplicate property '{name}' to object (type '{self.type}')"
            raise CommandError(desc)
        self.children[name] = child
        child.parent, child.name = self, name
        return child

    def remove(self, name: str) -> None:
        """Take a child away. Raises KeyError."""
        child = self.children.pop(name)
        child.parent, child.name = None, ""

    def listing(self) -> list[dict[str, str]]:
        """ObjectPropertyInfo of each property, children last (qapi/qom.json)."""
        own = [{"name": name, "type": each.type} for name, each in self.properties.items()]
        children = [{"name": name, "type": f"child<{child.type}>"} for name, child in self.children.items()]
        return own + children[::-1]

    def get(self, name: str) -> Any:
        """A property's value; a child's is its path. Raises CommandError."""
        if name in self.children:
            return self.children[name].path
        return self._property(name).read()

    def set(self, name: str, value: Any) -> None:
        """Set a property to a value from JSON. Raises CommandError in QEMU's words."""
        found = None if name in self.children else self._property(name)
        if found is None or found.write is None or found.kind is None:
            raise CommandError(f"Property '{self.type}.{name}' is not writable")
        if found.refuse is not None:
            found.refuse()
        try:
            read = found.kind.read(value, Form.JSON, (name,))
        except UsageError as error:
            raise CommandError(str(error)) from error
        found.write(read)

    def _property(self, name: str) -> Property:
        if name not in self.properties:
            raise CommandError(f"Property '{self.type}.{name}' not found")
        return self.properties[name]

    def is_a(self, type_name: str) -> bool:
        """Whether the node is of a type, or of one below it."""
        return type_name == self.type


class AmbiguousPathError(CommandError):
    """A partial path leads to several nodes."""


class Tree:
    """All nodes, from ``/`` on."""

    def __init__(self) -> None:
        self.root = Node(CONTAINER)

    def container(self, path: str) -> Node:
        """The container at an absolute path; it and those above it are made where there is none."""
        node = self.root
        for name in path.split("/"):
            if name:
                node = node.children.get(name) or node.add(name, Node(CONTAINER))
        return node

    @property
    def objects(self) -> Node:
        """Where the objects are that a user made."""
        return self.container(OBJECTS)

    def add_child(self, path: str, name: str, node: Node) -> None:
        """Hang a node under the container at an absolute path. Raises CommandError for a taken name."""
        self.container(path).add(name, node)

    def remove_child(self, path: str, name: str) -> None:
        """Take a node away from the container at an absolute path. Raises KeyError."""
        self.container(path).remove(name)

    def resolve(self, path: str) -> Node:
        """The node at a path: absolute from ``/`` on, or the one that a partial path leads to.

        A partial path is the end of an absolute one (QEMU: docs/devel/qom). Raises DeviceNotFoundError, or
        AmbiguousPathError.
        """
        parts = path.split("/") if path else []
        names = [part for part in parts if part]
        if parts and not parts[0]:
            found = [node for node in [self._descend(self.root, names)] if node is not None]
        else:
            starts = (self._descend(node, names) for node in _walk(self.root))
            found = [node for node in starts if node is not None]
        if not found:
            raise DeviceNotFoundError(path)
        if len(found) > 1:
            raise AmbiguousPathError(f"Path '{path}' is ambiguous")
        return found[0]

    def _descend(self, node: Node, names: list[str]) -> Node | None:
        for name in names:
            child = node.children.get(name)
            if child is None and name in node.properties and node.properties[name].type.startswith(LINK):
                target = node.get(name)
                child = self.resolve(target) if target else None
            if child is None:
                return None
            node = child
        return node


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children.values():
        yield from _walk(child)
