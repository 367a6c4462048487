"""Probes an image's format: looks at its first bytes."""

from __future__ import annotations

import os

from qmon.block.image_file import open_image_file
from qmon.host.fdsets import open_file
from qmon.notation.nbd_names import is_export

HEAD_BYTES = 512

_QCOW2 = b"QFI\xfb"
# QEMU's formats with a magic that qmon can't open. They are named so that they are not taken for raw.
_FOREIGN = {
    b"QFI\xfb\0\0\0\1": "qcow",
    b"QED\0": "qed",
    b"KDMV": "vmdk",
    b"COWD": "vmdk",
    b"# Disk DescriptorFile": "vmdk",
    b"conectix": "vpc",
    b"vhdxfile": "vhdx",
    b"WithoutFreeSpace": "parallels",
    b"WithouFreSpacExt": "parallels",
    b"LUKS\xba\xbe": "luks",
    b"Bochs Virtual HD Image": "bochs",
}
_VDI_PLACE, _VDI_MAGIC = 0x40, b"\x7f\x10\xda\xbe"


def format_of(head: bytes) -> str:
    """Return the format of an image with these first bytes; ``raw`` if no format matches."""
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            return name
    if head[_VDI_PLACE : _VDI_PLACE + len(_VDI_MAGIC)] == _VDI_MAGIC:
        return "vdi"
    return "qcow2" if head.startswith(_QCOW2) else "raw"


def probe_format(path: str) -> str:
    """Return the format of an image file. Raises OSError."""
    if is_export(path):
        return _probe_export(path)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # don't wait for a FIFO's writer
    descriptor, is_duplicate = open_file(path, flags)
    try:
        head = os.pread(descriptor, HEAD_BYTES, 0) if is_duplicate else os.read(descriptor, HEAD_BYTES)
        return format_of(head)
    finally:
        os.close(descriptor)


def _probe_export(name: str) -> str:
    file = open_image_file(name, read_only=True, locks=None)
    try:
        head = bytearray(min(HEAD_BYTES, file.size))
        file.read_into(0, memoryview(head))
        return format_of(bytes(head))
    finally:
        file.close()
