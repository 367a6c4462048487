"""The commands, one module per family: each function makes QMP calls and prints their results as text.

They may import what is below the monitor, and know the monitor as a LineRunner (``qmon.hmp.handlers``).
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from qmon.hmp.handlers import HANDLERS, Handler


@cache
def load() -> None:
    """Import all families, which registers their functions. For any thread."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def find_handler(c_name: str) -> Handler | None:
    """Return the function for a table's ``.cmd``, None if there is none."""
    load()
    return HANDLERS.get(c_name)
