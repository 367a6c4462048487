"""Standard input, output and error: there whatever the process was started with."""

from __future__ import annotations

import io
import os
import select
import sys


def open_standard_streams() -> None:
    """Put /dev/null where one was closed, and make text of them that any name can be printed as.

    Bytes that are no UTF-8 come out as they came in by arguments; on standard error they are shown. What
    standard error does not take is lost: there is nobody to be told of it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:  # else the next file opened would take its place
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


def drop_output() -> None:
    """Lose what standard output has not taken: else the interpreter would try again at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


class _StandardError(io.FileIO):
    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # any buffer, in typeshed's words
        left = memoryview(data)
        try:
            while left:
                written = super().write(left)
                if written is None:  # somebody else made it non-blocking
                    select.select([], [self], [])
                left = left[written or 0 :]
        except OSError:  # full, or nobody reads it
            pass
        return len(data)
