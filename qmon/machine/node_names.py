"""The names of a drive's nodes: those that were given, and new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from qmon.block.layers import spec_of
from qmon.machine.drive_chain import DriveChain
from qmon.notation.drive_options import DriveOptions
from qmon.notation.image_spec import ImageSpec


class NodeNames:
    """Names the two nodes of each image: the format's node, and the file's node below it.

    An image that is a file's node alone has the same name twice. A throttle filter has the drive's id.
    """

    def __init__(self, chain: DriveChain, new_name: Callable[[], str]) -> None:
        """``new_name`` returns an unused name."""
        self._chain = chain
        self._new_name = new_name
        self._pairs: list[tuple[str, str]] = []

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The names of each layer's two nodes, topmost first."""
        self._name_all()
        return self._pairs[: len(self._chain.layers)]

    def _name_all(self) -> None:
        while len(self._pairs) < len(self._chain.layers):
            self._pairs.append(self._choose())

    def _choose(self) -> tuple[str, str]:
        settings, number = self._chain.settings, len(self._pairs)
        given = self._chain.layers[number].given
        name, file_name, is_bare = None, None, False
        if number == 0:
            name, file_name, is_bare = settings.node_name, settings.file_node_name, settings.is_bare
        elif given is not None:
            name, file_name, is_bare = given.name, given.file_name, given.is_bare
        file = file_name or self._new_name()  # QEMU opens the file first
        return (file, file) if is_bare else (name or self._new_name(), file)

    @property
    def top(self) -> str:
        """The name of the topmost node below a throttle filter."""
        return self.pairs[0][0]

    @property
    def shown(self) -> str:
        """The name of the topmost node, which may be a throttle filter."""
        return self._chain.settings.id if self._chain.has_filter else self.top

    def has(self, name: str) -> bool:
        """Whether a node of the drive has this name."""
        return name == self.shown or any(name in pair for pair in self.pairs)

    def layer_of(self, name: str | None) -> int | None:
        """Return the number of the layer whose format's node has this name; None is the topmost node."""
        names = [each for each, _ in self.pairs]
        return 0 if name is None else names.index(name) if name in names else None

    def is_bare(self, number: int) -> bool:
        """Whether a layer has only a file's node, and no format's node above it."""
        name, file_name = self.pairs[number]
        return name == file_name

    def is_read_only(self, name: str | None) -> bool:
        """Whether the node with a name can't be written; None is the topmost node."""
        chain = self._chain
        if chain.settings.read_only or name is None or name == self.top:
            return chain.settings.read_only
        return chain.format != "raw" or name != self.pairs[0][1]

    def specs(self) -> Iterator[ImageSpec]:
        """Yield the images with the names of their nodes, topmost first."""
        chain = self._chain
        for number, (name, file_name) in enumerate(self.pairs):
            spec = spec_of(chain.layers[number:])
            is_bare, filter_name = name == file_name, None
            if chain.has_filter and not number:
                filter_name = chain.settings.id
            yield replace(spec, name=name, file_name=file_name, is_bare=is_bare, filter_name=filter_name)

    def spec(self, number: int = 0) -> ImageSpec:
        """Return the images with the names of all their nodes, so that they are opened as they are now.

        ``number`` is that of the topmost layer.
        """
        *above, lowest = list(self.specs())[number:]
        spec = lowest
        for each in reversed(above):
            spec = replace(each, backing=spec)
        return spec

    @property
    def settings_to_keep(self) -> DriveOptions:
        """The settings with the names that the machine made for the topmost image's nodes."""
        return replace(self._chain.settings, file_node_name=self.pairs[0][1])

    def add_overlay(self, name: str | None, file_name: str | None) -> None:
        """Name the nodes of an overlay on the image; the names are None if none was given."""
        self._name_all()  # the nodes below, before it
        file = file_name or self._new_name()
        self._pairs.insert(0, (name or self._new_name(), file))

    def remove_overlay(self) -> None:
        """Forget the names of the topmost image, an overlay that was taken off again."""
        del self._pairs[0]

    def forget_below(self) -> None:
        """Forget the names below the topmost image: another image is to back it."""
        del self._pairs[1:]
