"""The names of backing files in overlays, and where they lead."""

from __future__ import annotations

import errno

from qmon.errors import UsageError, reason
from qmon.notation.file_names import split_protocol
from qmon.notation.image_spec import ImageSpec
from qmon.notation.nbd_names import is_export, read_name
from qmon.notation.node_reader import is_json, read_json_name


def backing_image(overlay: str, name: str, format: str | None) -> ImageSpec:
    """Return the backing image that an overlay names, with the format that it gives. Raises OSError."""
    if is_export(name):
        return ImageSpec(_checked(name), format)
    if not is_json(name):
        return ImageSpec(backing_path(overlay, name), format)
    try:
        return read_json_name(name, format)
    except UsageError as error:
        raise OSError(errno.EINVAL, reason(error)) from error


def _checked(name: str) -> str:
    """Return the name of an export as the nodes use it. Raises OSError."""
    try:
        return read_name(name).text
    except UsageError as error:
        raise OSError(errno.EINVAL, reason(error)) from error


def backing_path(overlay: str, name: str) -> str:
    """Return the path of the backing file that an overlay names, resolved as by QEMU.

    A relative name starts at the overlay's folder; after "file:", like every name with a protocol, at the
    current folder. Raises OSError for a name that is not a file's.
    """
    path = full_backing_name(overlay, name)
    if path == name:
        path = name.removeprefix("file:")
    if split_protocol(path)[0] is not None:
        raise OSError(errno.ENOTSUP, f"'{name}' is not a file's name; only files are supported")
    return path


def full_backing_name(overlay: str, name: str) -> str:
    """Return QEMU's full name of a backing file that an overlay names (block.c, path_combine)."""
    if name.startswith("/") or split_protocol(name)[0] is not None:
        return name
    return overlay[: overlay.rfind("/") + 1] + name
