"""The version, in one place: read by the packaging, by ``-version`` and by ``query-version``."""

from __future__ import annotations

from typing import Any

VERSION = "0.1.0"


def version_info() -> dict[str, Any]:
    """QAPI's VersionInfo; QEMU's ``info version`` writes ``package`` right behind the number."""
    major, minor, micro = (int(part) for part in VERSION.split("."))
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": " (qmon)"}
