"""The images of a chain as they were found on disk, and what they are called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from qmon.block.qcow2.bitmaps import Bitmap
from qmon.block.qcow2.header import Header
from qmon.block.qcow2.snapshots import Snapshot
from qmon.notation.file_names import is_same_file
from qmon.notation.image_spec import FROM_HEADER, Backing, ImageSpec
from qmon.notation.nbd_names import NBD, is_export, read_name


@dataclass(frozen=True, slots=True)
class Layer:
    """One image of a chain, as found on disk: its file, and its header unless it is raw."""

    file: str
    format: str
    size: int
    header: Header | None = None
    snapshots: tuple[Snapshot, ...] = ()
    bitmaps: tuple[Bitmap, ...] = ()
    """The persistent bitmaps that are consistent."""
    name: str | None = None
    """The name that people see, if it is not ``file``."""
    given: ImageSpec | None = None
    """What was said about the image, if the options of a drive say it and not the overlay's header."""
    device_size: int = 0
    """The bytes of a block device or an export; 0 for a file."""
    is_cut_off: bool = False
    """Whether the header's backing image is left out."""

    @property
    def file_driver(self) -> str:
        """QEMU's name of the driver for the image's file."""
        if is_export(self.file):
            return NBD
        return "host_device" if self.device_size else "file"

    @property
    def file_options(self) -> dict[str, Any]:
        """The options that lead to the image's file."""
        if is_export(self.file):
            return read_name(self.file).options
        return {"driver": self.file_driver, "filename": self.name or self.file}

    @property
    def is_bare(self) -> bool:
        """Whether the options give it as a file's node alone, without a format's node."""
        return self.given is not None and self.given.is_bare


def wrong_driver(layer: Layer, driver: str | None) -> str | None:
    """Return QEMU's message if an image's file is not what its driver demands; None suits all."""
    if driver in (None, layer.file_driver):
        return None
    wanted = "a regular file" if driver == "file" else "either a character or block device"
    return f"'{driver}' driver requires '{layer.file}' to be {wanted}"


def spec_of(layers: Sequence[Layer]) -> ImageSpec:
    """Return what to say about an image, so that it is opened with the same backing images again."""
    top, *below = layers
    backing: Backing = None if top.is_cut_off else FROM_HEADER
    if below and any(layer.given is not None or layer.is_cut_off for layer in below):
        backing = spec_of(below)
    return ImageSpec(top.file, top.format, backing)


def keep_names(layers: Sequence[Layer], known: Sequence[Layer]) -> list[Layer]:
    """Return the layers with the file names from ``known``, which describes the same chain."""
    names = [layer.file for layer in known[: len(layers)]]
    names += [layer.file for layer in layers[len(names) :]]
    return [
        replace(layer, file=name) if is_same_file(layer.file, name) else layer
        for layer, name in zip(layers, names, strict=True)
    ]


def shown_name(layers: Sequence[Layer]) -> str:
    """Return QEMU's name of the first image: its file's, or ``json:`` if that leads to another chain.

    (QEMU: bdrv_refresh_filename in block.c.)
    """
    if _is_overridden(layers):
        return f"json:{json.dumps(_options(layers))}"
    return layers[0].name or layers[0].file


def filter_name(layers: Sequence[Layer], group: str, *, is_bare: bool) -> str:
    """Return QEMU's name of a throttle filter on the first image, or on its file if that is all there is."""
    below = _options(layers)["file"] if is_bare else _options(layers)
    return f"json:{json.dumps({'throttle-group': group, 'driver': 'throttle', 'file': below})}"


def _is_overridden(layers: Sequence[Layer]) -> bool:
    """Whether the first image's backing image is not the one that its header names."""
    top, *below = layers
    if not below:
        return top.is_cut_off
    if below[0].given is None:
        return False
    named = None if top.header is None else top.header.backing_file
    return named != shown_name(below)


def _options(layers: Sequence[Layer]) -> dict[str, Any]:
    top, *below = layers
    if top.is_bare:
        return top.file_options
    options: dict[str, Any] = {}
    if _is_overridden(layers):
        options["backing"] = _options(below) if below else None
    return {**options, "driver": top.format, "file": top.file_options}
