"""How a disk uses this host's page cache: the modes of ``cache=`` (QEMU: bdrv_parse_cache_mode)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qmon.notation.keyval import parse_switch


@dataclass(frozen=True, slots=True)
class Caching:
    """What the three switches ``cache.writeback``, ``cache.direct`` and ``cache.no-flush`` say."""

    writeback: bool = True
    """Whether a write is done before it is on stable storage; a flush comes after it."""
    direct: bool = False
    """Whether requests pass by this host's page cache."""
    no_flush: bool = False
    """Whether flushes are left out: a crash of the host may cost the whole image."""
    file: Caching | None = None
    """What was said of the file's node alone, below this one of a format; None: nothing."""

    @property
    def of_file(self) -> Caching:
        """How the image's file is opened."""
        if self.file is None:
            return self
        return Caching(direct=self.file.direct, no_flush=self.no_flush or self.file.no_flush)


WRITEBACK = Caching()

MODES = {
    "writeback": WRITEBACK,
    "none": Caching(direct=True),
    "off": Caching(direct=True),
    "directsync": Caching(writeback=False, direct=True),
    "writethrough": Caching(writeback=False),
    "unsafe": Caching(no_flush=True),
}
"""By the words of ``cache=``."""


def read_caching(options: Mapping[str, Any], mode: Caching = WRITEBACK) -> Caching:
    """Return what the switches among options say; ``mode`` says what those that are not given are.

    Raises UsageError for a value that is no switch.
    """

    def switch(name: str, default: bool) -> bool:
        value = options.get(name, default)
        return value if isinstance(value, bool) else parse_switch(name, value)

    return Caching(
        switch("cache.writeback", mode.writeback),
        switch("cache.direct", mode.direct),
        switch("cache.no-flush", mode.no_flush),
    )
