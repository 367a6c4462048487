"""A device: a place for a medium, and the settings that stay when the medium changes."""

from __future__ import annotations

from dataclasses import dataclass, field

from qmon.block.accounts import Accounts
from qmon.block.throttle import Throttle


@dataclass(eq=False, slots=True)
class Device:
    """``unit`` is the number of a device without a bus (``if=none``), None if it has a bus.

    ``read_only`` is the default for a new medium.
    """

    id: str
    read_only: bool = False
    unit: int | None = None
    accounts: Accounts = field(default_factory=Accounts)
    throttle: Throttle = field(default_factory=Throttle)
