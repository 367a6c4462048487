"""``-blockdev`` and blockdev-add: a node's options as QAPI knows them (block-core.json, BlockdevOptions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qmon.errors import UsageError
from qmon.notation.driver_options import (
    FILE_DRIVERS,
    OTHER_DRIVERS,
    OVERLAP_CHECKS,
    QCOW2,
    THROTTLE,
    refuse_driver,
)
from qmon.notation.image_spec import ImageSpec
from qmon.notation.json_text import parse_json
from qmon.notation.keyval_tree import parse_tree
from qmon.notation.node_names import refusal
from qmon.notation.node_reader import MAX_DEPTH, TOO_DEEP, NodeReader, flatten, no_node
from qmon.notation.visit import Anything, Choice, Form, Kind, Path, Struct, show_path, struct


@dataclass(frozen=True, slots=True)
class _Node:
    """A BlockdevOptions: the driver decides which options there are."""

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if not isinstance(value, dict):
            raise UsageError(f"Invalid parameter type for '{show_path(path, form)}', expected: object")
        if len(path) > MAX_DEPTH:
            raise UsageError(TOO_DEEP)
        if "driver" not in value:
            raise UsageError(f"Parameter '{show_path((*path, 'driver'), form)}' is missing")
        driver = _DRIVER.read(value["driver"], form, (*path, "driver"))
        if driver in OTHER_DRIVERS:
            raise refuse_driver(driver)
        return _KINDS[driver].read(value, form, path)


@dataclass(frozen=True, slots=True)
class _Reference:
    """A BlockdevRef: a node, or the name of one; with ``or_null`` also nothing."""

    or_null: bool = False

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if isinstance(value, str) or (value is None and self.or_null):
            return value
        if not isinstance(value, dict):
            kind = "BlockdevRefOrNull" if self.or_null else "BlockdevRef"
            raise UsageError(f"Invalid parameter type for '{show_path(path, form)}', expected: {kind}")
        return _Node().read(value, form, path)


@dataclass(frozen=True, slots=True)
class _OverlapChecks:
    """A mode, or an object with a template and one switch for each structure."""

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if not isinstance(value, str | dict):
            shown = show_path(path, form)
            raise UsageError(f"Invalid parameter type for '{shown}', expected: Qcow2OverlapChecks")
        return (_OVERLAP_FLAGS if isinstance(value, dict) else _OVERLAP_MODE).read(value, form, path)


_OVERLAP_MODE = Choice(OVERLAP_CHECKS)
_OVERLAP = "overlap-check."
_OVERLAP_FLAGS = struct(
    "template:mode "
    + " ".join(
        f"{name.removeprefix(_OVERLAP)}:bool"
        for name in QCOW2
        if name.startswith(_OVERLAP) and QCOW2[name] == "switch"
    ),
    {"mode": _OVERLAP_MODE},
)

_OTHERS: Mapping[str, Kind] = {
    "any": Anything(),
    "cache": struct("direct:bool no-flush:bool"),
    "overlap": _OverlapChecks(),
    "ref": _Reference(),
    "ref-or-null": _Reference(or_null=True),
}

_COMMON = """driver:str! node-name:str discard:ignore|unmap cache:cache read-only:bool auto-read-only:bool
    force-share:bool detect-zeroes:off|on|unmap"""

_FILE = """filename:str! pr-manager:str locking:auto|on|off aio:threads|native|io_uring aio-max-batch:int
    drop-cache:bool x-check-cache-dropped:bool"""

_QCOW2 = """file:ref! backing:ref-or-null lazy-refcounts:bool pass-discard-request:bool
    pass-discard-snapshot:bool pass-discard-other:bool discard-no-unref:bool overlap-check:overlap
    cache-size:int l2-cache-size:int l2-cache-entry-size:int refcount-cache-size:int
    cache-clean-interval:int encrypt:any data-file:ref"""

_KINDS: Mapping[str, Struct] = {
    **{driver: struct(f"{_COMMON} {_FILE}", _OTHERS) for driver in FILE_DRIVERS},
    "raw": struct(f"{_COMMON} file:ref! offset:int size:int", _OTHERS),
    "qcow2": struct(f"{_COMMON} {_QCOW2}", _OTHERS),
    THROTTLE: struct(f"{_COMMON} throttle-group:str! file:ref!", _OTHERS),
}

_DRIVER = Choice((*_KINDS, *sorted(OTHER_DRIVERS)))


def parse_blockdev(text: str) -> tuple[dict[str, Any], Form]:
    """Read ``-blockdev``'s argument; return a BlockdevOptions and how it was written. Raises UsageError."""
    if text.startswith("{"):
        value = parse_json(text)
        form = Form.JSON
    else:
        value, asks_help = parse_tree(text, "driver")
        form = Form.KEYVAL
        if asks_help:
            raise UsageError(f"the drivers are {', '.join(_KINDS)}")
    return value, form


def check_blockdev(value: Any, form: Form) -> dict[str, Any]:
    """Check a BlockdevOptions; return its options flat, with JSON's values. Raises UsageError."""
    checked = _Node().read(value, form, ())
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
