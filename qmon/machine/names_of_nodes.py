"""The names of a drive's nodes: those that were given, and new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qmon.block.layers import Layer
from qmon.notation.drive_options import DriveOptions


class NamesOfNodes:
    """Names the two nodes of each image: the format's node, and the file's node below it.

    An image that is a file's node alone has the same name twice.
    """

    def __init__(self, new_name: Callable[[], str]) -> None:
        """``new_name`` returns an unused name."""
        self._new_name = new_name
        self._pairs: list[tuple[str, str]] = []

    def of(self, settings: DriveOptions, layers: Sequence[Layer]) -> list[tuple[str, str]]:
        """Return the names of each layer's nodes, topmost first."""
        while len(self._pairs) < len(layers):
            self._pairs.append(self._choose(settings, layers))
        return self._pairs[: len(layers)]

    def add_overlay(self, name: str | None, file_name: str | None) -> None:
        """Name the nodes of an overlay on the image; the names are None if none was given."""
        file = file_name or self._new_name()
        self._pairs.insert(0, (name or self._new_name(), file))

    def remove_overlay(self) -> None:
        """Forget the names of the topmost image, an overlay that was taken off again."""
        del self._pairs[0]

    def forget_below(self) -> None:
        """Forget the names below the topmost image: another image is to back it."""
        del self._pairs[1:]

    def _choose(self, settings: DriveOptions, layers: Sequence[Layer]) -> tuple[str, str]:
        number = len(self._pairs)
        given = layers[number].given
        name, file_name, is_bare = None, None, False
        if number == 0:
            name, file_name, is_bare = settings.node_name, settings.file_node_name, settings.is_bare
        elif given is not None:
            name, file_name, is_bare = given.name, given.file_name, given.is_bare
        file = file_name or self._new_name()  # QEMU opens the file first
        return (file, file) if is_bare else (name or self._new_name(), file)
