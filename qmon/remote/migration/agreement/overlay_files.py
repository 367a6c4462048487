"""Names of a QEMU's image files, and the command that makes an overlay."""

from __future__ import annotations

import os
import re
import shlex

_WITH_PROTOCOL = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def real_name(name: str, pid: int | None) -> str:
    """Return a file's name from the root, if it is relative to the folder of the QEMU's process.

    Names with a protocol and names in an unreadable folder stay as they are.
    """
    if pid is None or not name or name.startswith("/") or _WITH_PROTOCOL.match(name):
        return name
    try:
        return os.path.normpath(os.path.join(os.readlink(f"/proc/{pid}/cwd"), name))
    except OSError:
        return name


def create_line(overlay: str, size: int, backing: str, format_: str) -> str:
    """Return the command that makes an empty overlay of ``size`` bytes."""
    words = ["qemu-img", "create", "-f", "qcow2", "-b", backing, "-F", format_, overlay, str(size)]
    return shlex.join(words)
