"""A device: the place a drive's medium is put into; what holds whichever medium is in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from qmon.block.accounts import Accounts
from qmon.block.throttle import Throttle


@dataclass(eq=False, slots=True)
class Device:
    """``unit`` is its number among the devices of no bus (``if=none``), None for one of a bus.

    ``read_only`` is how a medium is opened that says nothing else.
    """

    id: str
    read_only: bool = False
    unit: int | None = None
    accounts: Accounts = field(default_factory=Accounts)
    throttle: Throttle = field(default_factory=Throttle)
