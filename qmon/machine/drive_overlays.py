"""Changes an open drive's chain: puts an overlay on it, commits the overlay, names the backing image anew.

The drive must not be in use meanwhile.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace

from qmon.block.chain import commit as commit_image
from qmon.block.chain import put_overlay as put_overlay_on
from qmon.block.image import ImageNode
from qmon.block.layers import keep_names, spec_of
from qmon.block.qcow2.node import Qcow2Node
from qmon.machine.drive_chain import Described, DriveChain
from qmon.machine.drive_stack import DriveStack
from qmon.machine.node_names import NodeNames
from qmon.notation.drive_options import DriveOptions
from qmon.notation.image_spec import FROM_HEADER, Backing


class DriveOverlays:
    """For the chain of one drive, the names of its nodes, and the nodes."""

    def __init__(self, chain: DriveChain, names: NodeNames, stack: DriveStack) -> None:
        self._chain = chain
        self._names = names
        self._stack = stack

    def put(
        self, file: str, *, create: bool, name: str | None, node: DriveOptions | None = None
    ) -> Callable[[], None]:
        """Continue in an overlay: a new one with ``create``, else an existing empty one.

        ``name`` is the name of the overlay's node. ``node`` is what was said about an existing overlay that
        need not name the drive's image in its header. Raises OSError; then nothing has changed.

        Return what undoes it, as long as no request has been served. That may raise OSError, too; then the
        overlay stays.
        """
        chain, before = self._chain, self._chain.now
        settings, layers = before.settings, before.layers
        given: Backing = FROM_HEADER if node is None else self._names.spec()
        overlay, found = put_overlay_on(
            self._stack.image, layers, file, create=create, backing=given, caching=settings.caching
        )
        self._names.add_overlay(name, None if node is None else node.file_node_name)
        if node is None and not create:
            given = spec_of([found[0], *layers]).backing
        below = keep_names(found[1:], layers) if given is FROM_HEADER else list(layers)
        if node is not None:
            below[0] = replace(below[0], given=found[1].given)
        changed = replace(
            settings,
            file=file,
            format=overlay.format,
            backing=given,
            is_bare=False,
            qcow2=() if node is None else node.qcow2,
            detect_zeroes="off" if node is None else node.detect_zeroes,
            file_driver=None,
        )
        chain.now = Described(changed, overlay.format, [found[0], *below], has_overlay=True)
        self._stack.show(overlay)
        return lambda: self._take_off(overlay, before, file if create else None)

    def _take_off(self, overlay: ImageNode, before: Described, created: str | None) -> None:
        """Continue without an overlay; ``created`` is its file, if that is to be removed."""
        image = self._chain.open_again(self._stack.images[1], before)
        overlay.backing = None
        overlay.close()
        self._names.remove_overlay()
        self._chain.now = before
        self._stack.show(image)
        self._chain.look()
        if created is not None:
            os.unlink(created)

    def change_backing_name(self, name: str) -> None:
        """Write another name of the backing image into the image; the open backing image stays.

        Raises OSError.
        """
        image = self._stack.image
        if not isinstance(image, Qcow2Node):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        backing = self._names.spec().backing
        image.change_backing_name(name)
        self._chain.settings = replace(self._chain.settings, backing=backing)
        self._chain.look()

    def commit(self) -> None:
        """Write the data of the topmost image to its backing image. Raises OSError; then no data is lost."""
        chain, image = self._chain, self._stack.image
        if image.backing is None:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        try:
            below = chain.layers[1]
            is_probed = below.given is not None and below.given.format is None
            is_guessed = is_probed or (chain.is_temporary and chain.is_guessed_raw)
            commit_image(image, below, is_guessed=is_guessed and below.format == "raw")
        finally:
            chain.look()
