"""Opens an image by its format's name."""

from __future__ import annotations

import errno
import os
from typing import Protocol

from qmon.block.node import Node
from qmon.block.raw import RawNode

FORMATS = ("raw", "qcow2")
QCOW2_MAGIC = b"QFI\xfb"


class ImageNode(Node, Protocol):
    """A node that is a whole image: the bottom of what a drive shows."""

    format: str


def probe_format(path: str) -> str:
    """Tell an image's format by its first bytes; what no format claims is raw. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO is not waited for
    try:
        return "qcow2" if os.read(descriptor, len(QCOW2_MAGIC)) == QCOW2_MAGIC else "raw"
    finally:
        os.close(descriptor)


def open_image(path: str, image_format: str, *, read_only: bool = False, lock: bool = True) -> ImageNode:
    """Open an image; with ``lock`` it is locked as a running guest's disk.

    Raises OSError: ENOTSUP for a format that can't be opened.
    """
    if image_format == "qcow2":
        raise OSError(errno.ENOTSUP, f"qcow2 images can't be opened yet, only raw ones: '{path}'")
    if image_format != "raw":
        raise OSError(errno.EINVAL, f"Unknown driver '{image_format}': raw is known")
    return RawNode(os.fspath(path), read_only=read_only, lock=lock)
