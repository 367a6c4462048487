"""Files in the page cache, and files that are not: only on a file system that stores them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qmon.block.page_cache import is_in_memory
from tests.support.peers import lack


@contextmanager
def stored_folder(folder: Path) -> Iterator[Path]:
    """A folder on such a file system: this one, if it is."""
    if not _is_in_memory(folder):
        yield folder
        return
    if _is_in_memory(Path("/var/tmp")):
        lack("a file system with a page cache")
    made = Path(tempfile.mkdtemp(prefix="qmon-test-", dir="/var/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def _is_in_memory(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return is_in_memory(descriptor)
    finally:
        os.close(descriptor)


def drop_pages(file: Path) -> None:
    """Store a file, and have the page cache forget what of it nobody uses at the moment."""
    with file.open("r+b") as out:
        os.fsync(out.fileno())
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
