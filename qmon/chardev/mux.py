"""A multiplexer: several front ends name one character device, and the first of them has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.chardev.base import Chardev, Serve


class MuxChardev(Chardev):
    """QEMU switches between the front ends by Ctrl-A c; here only monitors are such, and one is enough."""

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
