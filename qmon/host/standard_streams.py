"""Standard input, output and error: makes them usable however the process was started."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def open_standard_streams() -> None:
    """Replace closed streams by /dev/null, and make every file name printable.

    Standard output prints bytes that are not UTF-8 as they were in the arguments; standard error shows them
    as escapes. Output that standard error can't take is lost: there is no other place to report it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:  # else the next opened file would get its number
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    sys.stderr = io.TextIOWrapper(
        _StandardError(sys.stderr.fileno(), "w", closefd=False),
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
    )


def put_null(descriptors: Iterable[int]) -> None:
    """Put /dev/null in the place of descriptors."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)


def drop_output() -> None:
    """Drop unwritten standard output. Otherwise the interpreter would try to write it again when it ends."""
    put_null([sys.stdout.fileno()])


class _StandardError(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        left = memoryview(data).cast("B")
        length = len(left)
        try:
            while left:
                written = super().write(left)
                if written is None:  # another process made it non-blocking
                    select.select([], [self], [])
                left = left[written or 0 :]
        except OSError:  # full, or nobody reads it
            pass
        return length
