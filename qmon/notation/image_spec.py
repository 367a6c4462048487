"""What a person can say about an image: its file, its format, and the image that backs it."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from qmon.notation.caching import Caching


class FromHeader(enum.Enum):
    """The only member says that the image itself names its backing image, if it has one."""

    FROM_HEADER = "from header"


FROM_HEADER = FromHeader.FROM_HEADER


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """One image. Names of nodes are None if the machine is to make them."""

    file: str
    """A path. Empty in a backing image: the file that the overlay names."""
    format: str | None = None
    """None: it is probed, or it is what the overlay says."""
    backing: Backing = FROM_HEADER
    name: str | None = None
    """The name of the format's node."""
    file_name: str | None = None
    """The name of the file's node."""
    read_only: bool = False
    is_shared: bool = False
    """Whether other programs may write the image meanwhile."""
    detect_zeroes: str = "off"
    """``on``: a write of zeros need not be data; ``unmap``: nor be allocated."""
    file_driver: str | None = None
    """``file`` or ``host_device``; None: whichever suits the file."""
    is_bare: bool = False
    """Whether only the file's node exists: the disk is the file."""
    group: str | None = None
    """The throttle group of a filter on top of the image."""
    filter_name: str | None = None
    """The name of that filter's node."""
    qcow2: tuple[tuple[str, Any], ...] = ()
    """qcow2's options and their values, to be checked against the image."""
    caching: Caching | None = None
    """None: as of the image above, and WRITEBACK for the topmost one."""

    @property
    def top_name(self) -> str | None:
        """The name of the topmost node."""
        return self.filter_name or self.name

    @property
    def images(self) -> Iterator[ImageSpec]:
        """This image and those that were given as backing images, topmost first."""
        image: Backing = self
        while isinstance(image, ImageSpec):
            yield image
            image = image.backing

    @property
    def names(self) -> list[str]:
        """The names that were given to nodes."""
        return [name for each in self.images for name in each.own_names]

    @property
    def own_names(self) -> list[str]:
        """The names that were given to the nodes of this image alone."""
        found = (self.filter_name, None if self.is_bare else self.name, self.file_name)
        return [name for name in found if name is not None]


Backing: TypeAlias = ImageSpec | FromHeader | None
"""What backs an image; None: nothing, whatever its header says."""
