"""A multiplexer: several front ends may name one character device; the first one gets it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.chardev.base import Chardev, Serve


class MuxChardev(Chardev):
    """QEMU switches front ends by Ctrl-A c. Here all front ends are monitors, so the first is enough."""

    kind = "mux"

    def __init__(self, label: str, data: Mapping[str, Any], base: Chardev) -> None:
        super().__init__(label, data)
        self._base = base
        base.users += 1

    def attach(self, serve: Serve) -> None:
        self.users += 1
        self.frontend_open = True
        if self._base.serve is None:
            self._base.begin_serving(serve)
