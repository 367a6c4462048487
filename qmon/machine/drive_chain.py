"""What a drive's images are: the options that name them, their formats and sizes, and how they are opened."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qmon.block.chain import reopened
from qmon.block.image import ImageNode, look_at_image, open_image
from qmon.block.image_file import ImageFile, open_image_file
from qmon.block.layers import Layer, keep_names, wrong_driver
from qmon.block.probe import probe_format
from qmon.errors import CommandError
from qmon.machine.temporary_overlay import TemporaryOverlay, on_top
from qmon.notation.caching import Caching
from qmon.notation.drive_options import DriveOptions
from qmon.notation.driver_options import check_image
from qmon.notation.nbd_names import NBD

GUESSED = (
    "drive '%s': the format of '%s' was probed as raw, so writes that make it look like another format are"
    " refused: give format=raw (at the prompt: 'drive_del %s', then 'drive_add 0 file=%s,format=raw,id=%s')"
)

log = logging.getLogger("qmon.drive")


@dataclass(frozen=True, slots=True)
class Described:
    """What describes a chain; an overlay changes it, and undoing that brings it back."""

    settings: DriveOptions
    format: str
    layers: Sequence[Layer]
    has_overlay: bool
    """Whether an overlay was added while the image was open."""


class DriveChain:
    """The topmost image and its backing images. All methods may block.

    The constructor reads the image's header, without a lock. Raises OSError, CommandError or UsageError.
    """

    def __init__(self, settings: DriveOptions) -> None:
        format = settings.format or probe_format(settings.file)
        if settings.qcow2 and format != "qcow2":
            raise CommandError(
                f"Block format '{format}' does not support the option '{settings.qcow2[0][0]}'"
            )
        self.is_guessed_raw = settings.format is None and format == "raw"
        """Whether the format of the image that the options name was probed as raw."""
        self._temporary: TemporaryOverlay | None = None
        self._base = settings.file
        self._held: list[ImageFile] = []
        self.now = Described(settings, format, [], has_overlay=False)
        """Its layers are as of the last time that they were opened or read."""
        self.look()
        self._check_options(self.layers[0])
        if settings.is_temporary:
            self._add_temporary_overlay()
        elif self.is_guessed_raw and not settings.read_only:
            doubled_commas = settings.file.replace(",", ",,")
            log.warning(GUESSED, settings.id, settings.file, settings.id, doubled_commas, settings.id)

    def _check_options(self, image: Layer) -> None:
        """Check the image's options against the image. Raises UsageError or CommandError."""
        why = wrong_driver(image, self.settings.file_driver)
        if why is not None:
            raise CommandError(why)
        if image.header is not None:
            check_image(dict(self.settings.qcow2), image.header.cluster_size, image.header.version)

    def _add_temporary_overlay(self) -> None:
        before = self.now
        self._temporary = TemporaryOverlay(before.layers[0].size)
        settings = on_top(before.settings, before.format, self._temporary)
        self.now = Described(settings, "qcow2", before.layers, has_overlay=True)
        self.look()

    @property
    def settings(self) -> DriveOptions:
        return self.now.settings

    @settings.setter
    def settings(self, settings: DriveOptions) -> None:
        self.now = replace(self.now, settings=settings)

    @property
    def format(self) -> str:
        """The topmost image's format."""
        return self.now.format

    @property
    def layers(self) -> Sequence[Layer]:
        return self.now.layers

    @layers.setter
    def layers(self, layers: Sequence[Layer]) -> None:
        self.now = replace(self.now, layers=layers)

    @property
    def image(self) -> str:
        """The image's file; below a temporary overlay, the one that stays."""
        return self.settings.file if self._temporary is None else self._base

    @property
    def is_temporary(self) -> bool:
        """Whether there is a temporary overlay."""
        return self._temporary is not None

    @property
    def has_filter(self) -> bool:
        """Whether a throttle filter's node is on top."""
        return self.settings.has_filter and not self.now.has_overlay

    def caching(self, number: int = 0) -> Caching:
        """Return how a layer uses this host's page cache. A temporary overlay is not flushed."""
        if self.is_temporary and not number:
            return Caching(no_flush=True)
        caching = self.settings.caching
        for layer in self.layers[1 : number + 1]:
            if layer.given is not None and layer.given.caching is not None:
                caching = layer.given.caching
        return caching

    def look(self) -> None:
        """Read ``layers`` from the files. Raises OSError."""
        settings = self.settings
        is_base = settings.is_temporary and self._temporary is None  # it will not be written
        layers = look_at_image(
            settings.file,
            self.format,
            backing=settings.backing,
            read_only=settings.read_only or is_base,
        )
        if self._temporary is not None:
            layers[0] = replace(layers[0], name=self._temporary.name)
        self.layers = keep_names(layers, self.layers)

    def open(self) -> ImageNode:
        """Open the image and lock it like a guest's disk. Raises OSError."""
        settings = self.settings
        return open_image(
            settings.file,
            self.format,
            backing=settings.backing,
            read_only=settings.read_only,
            is_shared=settings.is_shared,
            caching=settings.caching,
        )

    def open_again(
        self, image: ImageNode, wanted: Described | None = None, *, read_only: bool | None = None
    ) -> ImageNode:
        """Open the open ``image`` again as ``wanted``, or with another access, and close it.

        Raises OSError; then it stays open.
        """
        wanted = self.now if wanted is None else wanted
        settings = wanted.settings
        return reopened(
            image,
            settings.file,
            wanted.format,
            backing=settings.backing,
            read_only=settings.read_only if read_only is None else read_only,
            is_shared=settings.is_shared,
            caching=settings.caching,
        )

    def open_to_compare(self) -> ImageNode:
        """Open the image once more, read-only and without a lock. Raises OSError.

        If the file system can, it is read from storage, not from this host's cache.
        """
        settings = self.settings
        return open_image(
            settings.file,
            self.format,
            backing=settings.backing,
            read_only=True,
            lock=False,
            from_storage=True,
        )

    def hold_remote(self) -> None:
        """Keep the connections to its images' servers until ``close``. Raises OSError."""
        self._held = [
            open_image_file(layer.file, read_only=True, locks=None)
            for layer in self.layers
            if layer.file_driver == NBD
        ]

    def close(self) -> None:
        """Remove the temporary overlay, and end the connections to servers."""
        if self._temporary is not None:
            self._temporary.close()
        for file in self._held:
            file.close()
        self._held = []
