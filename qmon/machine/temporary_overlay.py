"""The overlay of a drive with ``snapshot=on``: a file without a name, which is gone when it is closed."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace

from qmon.block.qcow2.create import write_temporary
from qmon.notation.caching import Caching
from qmon.notation.drive_options import DriveOptions
from qmon.notation.image_spec import ImageSpec

DEFAULT_FOLDER = "/var/tmp"


class TemporaryOverlay:
    """An empty qcow2 overlay in $TMPDIR, by default in /var/tmp as in QEMU.

    It can be opened by the path ``/proc/self/fd/N`` until ``close``. May block; raises OSError.
    """

    def __init__(self, size: int) -> None:
        """``size`` is that of the disk, in bytes."""
        folder = os.environ.get("TMPDIR") or DEFAULT_FOLDER
        try:
            descriptor, self.name = tempfile.mkstemp(prefix="vl.", dir=folder)
        except OSError as error:
            why = f"can't create a temporary overlay in '{folder}': {error.strerror}"
            raise OSError(error.errno, why) from error
        os.unlink(self.name)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self.path = f"/proc/self/fd/{descriptor}"
        try:
            write_temporary(self.path, size)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the file."""
        self._file.close()


def on_top(settings: DriveOptions, format: str, overlay: TemporaryOverlay) -> DriveOptions:
    """Return the settings of a drive that writes to a temporary overlay; ``format`` is its image's."""
    base = ImageSpec(
        settings.file,
        format,
        settings.backing,
        name=settings.node_name,
        file_name=settings.file_node_name,
        file_driver=settings.file_driver,
        is_bare=settings.is_bare,
        caching=settings.caching,
    )
    return replace(
        settings,
        file=overlay.path,
        format="qcow2",
        backing=base,
        node_name=None,
        file_node_name=None,
        file_driver=None,
        is_bare=False,
        caching=Caching(no_flush=True),
    )
