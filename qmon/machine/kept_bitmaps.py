"""A drive's dirty bitmaps while its image is closed, because a migration has released it."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Sequence

from qmon.block.bitmaps import Bitmaps
from qmon.block.image import ImageNode
from qmon.host.fdsets import real_name
from qmon.notation.nbd_names import is_export

log = logging.getLogger("qmon.drive")

_Stamp = tuple[int, int] | None
"""A file's length and the time of its last change; None if nothing says whether it was changed."""


class KeptBitmaps:
    """The bitmaps of each layer, topmost first. Those that the image stores are only names here."""

    def __init__(self) -> None:
        self._sets: list[Bitmaps] = []
        self._files: list[str] = []
        self._stamps: list[_Stamp] = []

    def of(self, number: int) -> Bitmaps:
        """Return a layer's bitmaps, as they were when the image was closed."""
        return self._sets[number] if number < len(self._sets) else Bitmaps()

    def keep(self, images: Sequence[ImageNode]) -> None:
        """Keep the bitmaps of images that are about to be closed."""
        self._sets = [image.bitmaps for image in images]
        self._files = [file.path for image in images for file in image.files]
        self._stamps = []

    def note_release(self) -> None:
        """Note how the files are, now that they are closed and others may write to them. Raises OSError."""
        if any(self._sets):
            self._stamps = self._look()

    def give_back(self, images: Sequence[ImageNode], *, changed: bool) -> None:
        """Go on with the bitmaps in images that were opened again.

        If the files were ``changed`` meanwhile, the bitmaps that only memory has say that all is dirty.
        """
        for image, kept in zip(images, self._sets, strict=False):
            image.bitmaps.take_over(kept, image.size)
            for bitmap in image.bitmaps if changed else ():
                if not bitmap.persistent:
                    log.warning(
                        "image '%s' was changed elsewhere: all of bitmap '%s' is dirty now",
                        image.files[0].path,
                        bitmap.name,
                    )
                    bitmap.mark_all()
        self._sets, self._stamps = [], []

    def are_outdated(self) -> bool:
        """Whether the files were changed since ``note_release``, or may have been. Raises OSError."""
        if not self._stamps:
            return False
        now = self._look()
        return None in now or now != self._stamps

    def _look(self) -> list[_Stamp]:
        found: list[_Stamp] = []
        for file in self._files:
            if is_export(file):
                found.append(None)
                continue
            status = os.stat(real_name(file))
            is_device = stat.S_ISBLK(status.st_mode)
            found.append(None if is_device else (status.st_size, status.st_mtime_ns))
        return found
