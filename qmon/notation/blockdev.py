"""``-blockdev`` and blockdev-add: a node's options as QAPI knows them (block-core.json, BlockdevOptions)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import UsageError
from qmon.notation.image_spec import ImageSpec
from qmon.notation.json_text import parse_json
from qmon.notation.keyval_tree import parse_tree
from qmon.notation.node_names import refusal
from qmon.notation.node_reader import NodeReader, flatten, no_node
from qmon.notation.qapi import default_schema
from qmon.notation.visit import Form

_NODE, _DRIVER = "BlockdevOptions", "BlockdevDriver"


def parse_blockdev(text: str) -> tuple[dict[str, Any], Form]:
    """Read ``-blockdev``'s argument; return a BlockdevOptions and how it was written. Raises UsageError."""
    if text.startswith("{"):
        value = parse_json(text)
        form = Form.JSON
    else:
        value, asks_help = parse_tree(text, "driver")
        form = Form.KEYVAL
        if asks_help:
            raise UsageError(f"the drivers are {', '.join(default_schema().words(_DRIVER))}")
    return value, form


def check_blockdev(value: Any, form: Form) -> dict[str, Any]:
    """Check a BlockdevOptions; return its options flat, with JSON's values. Raises UsageError."""
    checked: dict[str, Any] = default_schema().kind(_NODE).read(value, form, ())
    if "node-name" not in checked:
        raise UsageError("'node-name' must be specified for the root node")
    return flatten(checked)


class NodeList:
    """Collects the nodes of the command line in order. Those that no other refers to become drives."""

    def __init__(self) -> None:
        self.ignored: list[str] = []
        """The keys that were accepted but have no effect."""
        self._added: dict[str, ImageSpec] = {}
        """All nodes that were added, in order."""
        self._roots: dict[str, ImageSpec] = {}
        self._known: dict[str, ImageSpec] = {}
        self._names: set[str] = set()
        self._files: set[str] = set()
        """The nodes that are a format's file; they can't be used again."""

    @property
    def roots(self) -> list[ImageSpec]:
        """The nodes that no other node refers to."""
        return list(self._roots.values())

    @property
    def added(self) -> list[tuple[ImageSpec, bool]]:
        """The nodes that were added, in order, and whether another node uses them."""
        return [(spec, name not in self._roots) for name, spec in self._added.items()]

    @property
    def names(self) -> set[str]:
        """The names of all nodes."""
        return self._names

    def add(self, text: str) -> None:
        """Add a node by its option string or JSON. Raises UsageError with QEMU's message."""
        reader = NodeReader(self._find, has_filters=True)
        spec = reader.read(check_blockdev(*parse_blockdev(text)))
        for name in added_names(spec, {name for name, _ in reader.referred}, self._known):
            refused = refusal(name, "", self._names, ())
            if refused is not None:
                raise UsageError(refused)
            self._names.add(name)
        for name, use in reader.referred:
            self._roots.pop(name, None)
            if use == "file":
                self._files.add(name)
        assert spec.top_name is not None
        self._roots[spec.top_name] = self._added[spec.top_name] = spec
        for each in spec.images:
            self._known.update({name: each for name in (each.top_name, each.name) if name is not None})
            if each.file_name is not None and not each.is_bare:
                self._known[each.file_name] = each
                self._files.add(each.file_name)
        self.ignored += reader.ignored

    def _find(self, name: str) -> ImageSpec:
        if name not in self._known:
            return no_node(name)
        if name in self._files:
            raise UsageError(f"Node '{name}' is in use by another node")
        return self._known[name]


def added_names(spec: ImageSpec, referred: set[str], known: Mapping[str, ImageSpec]) -> list[str]:
    """Return the names in ``spec`` that are new, in the order in which QEMU opens the nodes."""
    old = set(referred)
    for name in referred:
        if name in known:
            old.update(known[name].names)
    return [name for name in reversed(spec.names) if name not in old]
