"""The nodes of a drive: its image while that is open, and the filters above it."""

from __future__ import annotations

import functools

from qmon.block.bitmaps import BitmapFilter
from qmon.block.detect_zeroes import DetectZeroesFilter
from qmon.block.faults import FaultFilter, Faults
from qmon.block.guessed import GuessedRawFilter
from qmon.block.image import FileIdentity, ImageNode, identify, images_of
from qmon.block.inactive import InactiveNode, not_open
from qmon.block.node import Node
from qmon.block.recent import RecentFilter, RecentWrites
from qmon.block.stack import NodeStack
from qmon.block.unflushed import UnflushedFilter
from qmon.block.write_threshold import ThresholdFilter, WriteThreshold
from qmon.machine.drive_chain import DriveChain
from qmon.machine.node_names import NodeNames


class DriveStack(NodeStack):
    """What requests pass through. What filters do is kept while the image is closed.

    The calls that change filters are made while no request is inside the gate.
    """

    def __init__(self, chain: DriveChain, names: NodeNames) -> None:
        super().__init__(InactiveNode(chain.layers[0].size, chain.settings.read_only))
        self._chain = chain
        self._names = names
        self._image: ImageNode | None = None
        self.faults = Faults()
        self.recent = RecentWrites()
        """The guests' last writes since the drive was added."""
        self._thresholds: dict[str, WriteThreshold] = {}
        """By the name of the node."""
        self._watcher: ThresholdFilter | None = None
        self._marker: BitmapFilter | None = None

    @property
    def is_open(self) -> bool:
        """Whether the image is open."""
        return self._image is not None

    @property
    def image(self) -> ImageNode:
        """The open image, below all filters. Raises OSError if none is open."""
        if self._image is None:
            raise not_open()
        return self._image

    @property
    def images(self) -> list[ImageNode]:
        """The open image and its backing images, topmost first; none while it is closed."""
        return [] if self._image is None else list(images_of(self._image))

    def identify(self) -> tuple[FileIdentity, ...]:
        """Return the identities of the open image's files. Raises OSError."""
        return () if self._image is None else identify(self._image)

    def show(self, image: ImageNode) -> None:
        """Put an open image in the place of everything, with the filters above it."""
        self._image = image
        chain = self._chain
        settings = chain.settings
        node: Node = RecentFilter(image, self.recent)
        if chain.is_temporary:
            node = UnflushedFilter(node)
        if chain.is_guessed_raw and chain.format == "raw":
            node = GuessedRawFilter(node)
        if settings.detect_zeroes != "off" and not settings.read_only:
            node = DetectZeroesFilter(node, unmap=settings.detect_zeroes == "unmap")
        if self.faults:
            node = FaultFilter(node, self.faults)
        self.put(node)
        self._watch_writes()
        self.track_writes()

    def hide(self, size: int) -> None:
        """Fail requests from now on: the image, of ``size`` bytes, is closed or about to be."""
        self.put(InactiveNode(size, self._chain.settings.read_only))
        self._image = None

    def set_threshold(self, name: str, threshold: WriteThreshold) -> None:
        """Watch writes to a node; this replaces its last threshold."""
        self._thresholds[name] = threshold
        self._watch_writes()

    def threshold(self, name: str) -> int:
        """The threshold of a node in bytes, 0 without one; as in QAPI a signed number of 64 bits."""
        threshold = self._thresholds.get(name)
        offset = 0 if threshold is None else threshold.offset
        return offset - (1 << 64) if offset >= 1 << 63 else offset

    def _watch_writes(self) -> None:
        names = self._names.pairs if self._thresholds else []
        for image, (name, file_name) in zip(self.images, names, strict=False):
            image.files[0].threshold = self._thresholds.get(file_name)
            threshold = self._thresholds.get(name)
            if image is self._image and name != file_name and threshold is not None:
                if self._watcher is not None:
                    self.pop(self._watcher)
                self._watcher = self.push(functools.partial(ThresholdFilter, threshold=threshold))

    def track_writes(self) -> None:
        """Mark writes to the open image as long as it has bitmaps."""
        if self._image is None:
            return
        bitmaps = self._image.bitmaps
        if bitmaps and not self.has(BitmapFilter):
            self._marker = self.push(lambda node: BitmapFilter(node, bitmaps))
        elif not bitmaps and self._marker is not None:
            self.pop(self._marker)

    @property
    def lacks_fault_filter(self) -> bool:
        """Whether the fault filter is missing: the image was opened while ``faults`` was empty."""
        return self._image is not None and not self.has(FaultFilter)

    def install_fault_filter(self) -> None:
        """Apply ``faults`` to requests while the image is open."""
        if self.lacks_fault_filter:
            self.push(lambda node: FaultFilter(node, self.faults))
