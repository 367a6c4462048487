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
    is_node: bool = field(default=False, kw_only=True)
    """Whether it is a block node: then ``id`` is the node's name, and QMP shows no device name."""
    accounts: Accounts = field(default_factory=Accounts)
    throttle: Throttle = field(default_factory=Throttle)

    @property
    def name(self) -> str:
        """What QMP shows as the device's name."""
        return "" if self.is_node else self.id
