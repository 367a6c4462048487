"""The commands, one module for each family: each function is a translation to QMP calls and to text.

They may import what is below the monitor, which they know as a LineRunner (``qmon.hmp.handlers``).
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from qmon.hmp.handlers import HANDLERS, Handler


@cache
def load() -> None:
    """Import the families, so that their functions are known by name; from any thread."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def find_handler(c_name: str) -> Handler | None:
    """The function that a table names by ``.cmd``; None when nobody wrote one."""
    load()
    return HANDLERS.get(c_name)
