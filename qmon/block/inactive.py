"""A node without content: every request to it fails."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import NoReturn

from qmon.block.node import Buffer, Extent


def not_open() -> OSError:
    """Return the error of a request to an image that is not open here."""
    return OSError(errno.ESHUTDOWN, "the image is not open here")


class InactiveNode:
    """Takes the place of an image that is not open here: it has a size but no content.

    Requests fail with ``failure``, by default with ``not_open()``.
    """

    def __init__(self, size: int, read_only: bool, failure: OSError | None = None) -> None:
        self.size = size
        self.read_only = read_only
        self.backing = None
        self._failure = failure or not_open()

    read_now = None
    write_now = None

    def _refuse(self) -> NoReturn:
        raise self._failure

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._refuse()

    def write(self, offset: int, data: Buffer) -> None:
        self._refuse()

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._refuse()

    def discard(self, offset: int, length: int) -> None:
        self._refuse()

    def flush(self) -> None:
        self._refuse()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        self._refuse()

    def resize(self, size: int) -> None:
        self._refuse()

    def close(self) -> None:
        """Nothing is open."""
