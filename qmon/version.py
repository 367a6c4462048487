"""The version, in one place: read by the packaging, by ``-version`` and by ``query-version``."""

from __future__ import annotations

from typing import Any

VERSION = "0.1.0"


QEMU_VERSION = (7, 2, 0)
"""The version of QEMU whose commands these are, for clients that ask for a least one."""


def version_info() -> dict[str, Any]:
    """QAPI's VersionInfo; QEMU's ``info version`` writes ``package`` right behind the number."""
    major, minor, micro = QEMU_VERSION
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": f" (qmon {VERSION})"}
