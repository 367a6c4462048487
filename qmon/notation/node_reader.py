"""Reads the options of a block node and of the nodes below it, however they were written (QEMU: bdrv_open).

``-blockdev`` and QMP's blockdev-add are checked as QAPI demands first (``blockdev.py``); ``-drive`` and names
that begin with ``json:`` come here at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.notation.caching import read_caching
from qmon.notation.driver_options import (
    CACHE,
    COMMON,
    DETECT_ZEROES,
    FILE,
    FILE_DRIVERS,
    FORMAT_DRIVERS,
    OTHER_DRIVERS,
    QCOW2,
    SHARE,
    THROTTLE,
    Flat,
    as_text,
    check,
    check_common,
    check_qcow2,
    refuse_driver,
)
from qmon.notation.file_names import split_protocol, without_protocol
from qmon.notation.image_spec import FROM_HEADER, Backing, ImageSpec
from qmon.notation.json_text import parse_json
from qmon.notation.keyval import parse_switch
from qmon.notation.nbd_names import NBD, is_export, read_options
from qmon.notation.visit import MAX_DEPTH

JSON = "json:"
_ENCRYPTION = "encrypt."
_NO_FILE = 'A block device must be specified for "file"'

TOO_DEEP = f"more than {MAX_DEPTH} nodes are nested"
"""Of nodes in one text. Names can lead to longer chains."""

Find = Callable[[str], ImageSpec]
"""Returns the node with a name. Raises UsageError."""


def no_node(name: str) -> ImageSpec:
    """Raises UsageError with QEMU's message about a node that is not there."""
    raise UsageError(f"Cannot find device='{name}' nor node-name='{name}'")


def is_json(name: str) -> bool:
    """Whether a file name is a node's options, written in JSON."""
    return name.startswith(JSON)


def read_json_name(name: str, driver: str | None = None) -> ImageSpec:
    """Read a ``json:`` name; ``driver`` replaces the one that it gives.

    Raises UsageError, which names a driver that leads elsewhere.
    """
    return NodeReader().read({} if driver is None else {"driver": driver}, name)


def json_options(name: str) -> dict[str, Any]:
    """Return the options in a name that begins with ``json:``. Raises UsageError with QEMU's message."""
    try:
        options = parse_json(name.removeprefix(JSON))
    except UsageError as error:
        raise UsageError(f"Could not parse the JSON options: {error}") from error
    if not isinstance(options, dict):
        raise UsageError("Invalid JSON object given")
    return flatten(options)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options as flat ones: ``{"file": {"driver": "file"}}`` has ``file.driver``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, list):
            value = {str(number): each for number, each in enumerate(value)}
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        elif not isinstance(value, dict):
            flat[f"{prefix}{key}"] = value
    return flat


class NodeReader:
    """Reads one node. ``find`` returns a node that it refers to by name."""

    def __init__(self, find: Find = no_node, *, has_filters: bool = False) -> None:
        """With ``has_filters`` a throttle filter may be on top."""
        self._find = find
        self._has_filters = has_filters
        self.ignored: list[str] = []
        """The keys that were accepted but have no effect."""
        self.referred: list[tuple[str, str]] = []
        """The names of the nodes that it refers to, and what for: ``file`` or ``backing``."""

    def read(self, options: Flat, filename: str = "") -> ImageSpec:
        """Return the image; ``filename`` is that of ``-drive file=``, which may be a ``json:`` name.

        Raises UsageError with QEMU's message.
        """
        if is_json(filename):
            named = json_options(filename)
            if named.get("driver") in OTHER_DRIVERS:
                raise refuse_driver(named["driver"])
            options, filename = {**named, **options}, ""
        return self._node(dict(options), filename, "")

    def _node(self, left: dict[str, Any], filename: str, place: str) -> ImageSpec:
        """Read a node; ``left`` has its options, ``place`` is what their keys began with."""
        if place.count(".") > MAX_DEPTH:
            raise UsageError(TOO_DEEP)
        driver, name = _text(left, "driver"), _text(left, "node-name")
        read_only = parse_switch("read-only", as_text(left.pop("read-only", "off")))
        check_common(left, read_only=read_only or "backing." in place)
        self._take(left, COMMON, place)
        own = {key: check(key, left.pop(key), "switch") for key in CACHE if key in left}
        has_file = filename or any(key.startswith("file.") for key in left)
        if has_file and driver not in FILE_DRIVERS:  # the file's node inherits them
            for key, value in own.items():
                left.setdefault(f"file.{key}", value)
        is_shared = parse_switch(SHARE, as_text(left.pop(SHARE, "off")))
        detect_zeroes = _text(left, DETECT_ZEROES) or "off"
        spec = self._read(left, driver, name, filename, place, read_only=read_only)
        if own or spec.caching is not None:
            spec = replace(spec, caching=replace(read_caching(own), file=spec.caching))
        return replace(spec, is_shared=is_shared or spec.is_shared, detect_zeroes=detect_zeroes)

    def _read(
        self,
        left: dict[str, Any],
        driver: str | None,
        name: str | None,
        filename: str,
        place: str,
        *,
        read_only: bool,
    ) -> ImageSpec:
        """Read what a driver knows of a node. Its file's node inherits ``read_only`` if it says nothing."""
        if read_only and not place and any(key.startswith("file.") for key in left):
            left.setdefault("file.read-only", True)
        if driver in FILE_DRIVERS and not any(key == "file" or key.startswith("file.") for key in left):
            spec = self._file(left, driver, filename, place)
            spec = replace(spec, name=name, file_name=name, is_bare=True, format="raw", file_driver=driver)
            self._refuse_left(left, driver, "protocol")
            return replace(spec, read_only=read_only)
        if driver == THROTTLE:
            return self._throttle(left, name, read_only, filename, place)
        if driver is not None and driver not in FORMAT_DRIVERS:
            raise refuse_driver(driver)
        if driver is None and not place and not (filename or "file" in left or _below(dict(left), "file.")):
            raise UsageError("Must specify either driver or file")
        spec = self._child(left, filename, place, is_backing=place.endswith("backing."))
        if driver != "raw":
            spec = replace(spec, backing=self._backing(left, place), qcow2=self._qcow2(left, place))
        else:
            _check_raw(left)
        self._refuse_left(left, driver or "raw", "format")
        if spec.read_only and not (read_only or "backing." in place):
            raise UsageError("Block node is read-only")
        return replace(spec, format=driver, name=name, read_only=read_only)

    def _take(self, left: dict[str, Any], kinds: Mapping[str, str], place: str) -> None:
        """Take the options of some kinds that have no effect."""
        for name in [name for name in kinds if name in left]:
            check(name, left.pop(name), kinds[name])
            self.ignored.append(f"{place}{name}")

    def _qcow2(self, left: dict[str, Any], place: str) -> tuple[tuple[str, Any], ...]:
        """Take qcow2's options; return their values."""
        for key in left:
            if key.startswith(_ENCRYPTION):
                raise UsageError(
                    f"qcow2: option '{place}{key}' is not supported: encrypted images can't be opened"
                )
            if key == "data-file" or key.startswith("data-file."):
                raise UsageError(
                    f"qcow2: option '{place}{key}' is not supported: the image names its data file itself"
                )
        values = check_qcow2(left)
        self._take(left, QCOW2, place)
        return tuple(values.items())

    def _refuse_left(self, left: Flat, driver: str, kind: str) -> None:
        for key in left:
            if kind == "protocol":
                raise UsageError(f"Block protocol '{driver}' doesn't support the option '{key}'")
            raise UsageError(f"Block format '{driver}' does not support the option '{key}'")

    def _file(self, left: dict[str, Any], driver: str, filename: str, place: str) -> ImageSpec:
        """Read a file's node; take its options."""
        if driver == NBD:
            options = dict(left)
            left.clear()
            return ImageSpec(read_options(options, filename).text)
        given = _text(left, "filename")
        name = given if given is not None else filename
        self._take(left, FILE, place)
        if not name and given is None and place.endswith("backing.file."):
            return ImageSpec("")  # the file that the overlay names
        if not name:
            raise UsageError(f"The '{driver}' block driver requires a file name")
        if given is not None and split_protocol(given)[0] is not None:
            name = f"./{given}"  # this name is a path, whatever it looks like
        try:
            return ImageSpec(without_protocol(name))
        except CommandError as error:
            raise UsageError(str(error)) from error

    def _child(self, left: dict[str, Any], filename: str, place: str, *, is_backing: bool) -> ImageSpec:
        """Read what a format's node has as its file."""
        inner = _below(left, "file.")
        reference = left.pop("file", None)
        if reference is not None:
            if inner or filename:
                raise UsageError(
                    "Cannot reference an existing block device with additional options or a new filename"
                )
            return self._referred_file(as_text(reference))
        if not inner and not filename:
            if is_backing:
                return ImageSpec("")  # the file that the overlay names
            raise UsageError(_NO_FILE)
        if filename and "filename" in inner:
            raise UsageError("Can't specify 'file' and 'filename' options at the same time")
        is_found_by_name = "driver" not in inner
        if is_found_by_name:
            inner["driver"] = NBD if is_export(filename) else "file"
        spec = _one_file(self._node(inner, filename, f"{place}file."))
        return replace(spec, file_driver=None) if is_found_by_name else spec

    def _referred_file(self, name: str) -> ImageSpec:
        spec = self._find(name)
        self.referred.append((name, "file"))
        return _one_file(spec)

    def _backing(self, left: dict[str, Any], place: str) -> Backing:
        inner = _below(left, "backing.")
        reference: object = left.pop("backing", FROM_HEADER)
        if reference is FROM_HEADER and not inner:
            return FROM_HEADER
        if reference is None or reference == "":
            return None
        try:
            return self._given_backing(inner, reference, place)
        except UsageError as error:
            raise UsageError(f"Could not open backing file: {error}") from error

    def _given_backing(self, inner: dict[str, Any], reference: object, place: str) -> ImageSpec:
        if reference is FROM_HEADER:
            return self._node(inner, "", f"{place}backing.")
        if inner:
            raise UsageError(
                "Cannot reference an existing block device with additional options or a new filename"
            )
        name = as_text(reference)
        spec = self._find(name)
        self.referred.append((name, "backing"))
        return spec

    def _throttle(
        self, left: dict[str, Any], name: str | None, read_only: bool, filename: str, place: str
    ) -> ImageSpec:
        group = _text(left, "throttle-group")
        if place or not self._has_filters:
            raise UsageError("driver 'throttle' is supported only on top of a -blockdev's other nodes")
        reference, inner = left.pop("file", None), _below(left, "file.")
        if reference is not None:
            spec = self._find(as_text(reference))
            self.referred.append((as_text(reference), "file"))
        elif inner or filename:
            spec = self._node(inner, filename, "file.")
        else:
            raise UsageError(_NO_FILE)
        if group is None:
            raise UsageError("Please specify a throttle group")
        self._refuse_left(left, THROTTLE, "format")
        return replace(spec, group=group, filter_name=name, read_only=read_only or spec.read_only)


def _one_file(spec: ImageSpec) -> ImageSpec:
    """Check that a format's file is a file; return it as the beginning of the image."""
    if not (spec.is_bare or (spec.format == "raw" and spec.backing is FROM_HEADER)) or spec.group is not None:
        raise UsageError("a format is supported only on a file's node, not on another format or a filter")
    return ImageSpec(
        spec.file,
        file_name=spec.file_name,
        file_driver=spec.file_driver,
        read_only=spec.read_only,
        is_shared=spec.is_shared,
        caching=spec.caching,
    )


def _text(left: dict[str, Any], name: str) -> str | None:
    value = left.pop(name, None)
    return None if value is None else as_text(value)


def _below(left: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Take the options that begin with ``prefix``, and return them without it."""
    found = [key for key in left if key.startswith(prefix)]
    return {key.removeprefix(prefix): left.pop(key) for key in found}


def _check_raw(left: dict[str, Any]) -> None:
    for name in ("offset", "size"):
        if name in left and check(name, left.pop(name), "size"):
            raise UsageError(f"raw: option '{name}' is not supported: the disk is the whole file")
