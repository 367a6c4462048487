"""A folder for the Unix sockets between a console and its QEMU, which nobody else can open."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "qmon-sockets-"


class PrivateFolder:
    """A folder of mode 0700, from its constructor to ``remove``. Raises OSError if it can't be made."""

    def __init__(self) -> None:
        parent = os.environ.get("XDG_RUNTIME_DIR", "")
        where = Path(
            parent if os.path.isdir(parent) and os.access(parent, os.W_OK) else tempfile.gettempdir()
        )
        _sweep(where)
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=where))

    def remove(self) -> None:
        """Remove the folder with all sockets in it; idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)


def _sweep(where: Path) -> None:
    """Remove the folders that killed processes of this user have left."""
    for each in where.glob(f"{_PREFIX}*-*"):
        pid = each.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdecimal() and each.stat().st_uid == os.geteuid() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(each, ignore_errors=True)
