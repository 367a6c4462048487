"""A drive as its guests (NBD clients and qemu-io) see it: with throttling and request statistics."""

from __future__ import annotations

from qmon.block.accounts import Accounts
from qmon.block.gate import Gate
from qmon.block.hints import is_elsewhere
from qmon.block.node import Node
from qmon.block.stack import NodeStack
from qmon.block.throttle import ThrottleFilter
from qmon.machine.device import Device


class GuestDisk:
    """What guests' requests pass: the gate, the device's throttle, and the drive's nodes."""

    def __init__(self, device: Device, gate: Gate, stack: NodeStack) -> None:
        self.device = device
        """The device that has the drive as its medium."""
        self.gate = gate
        self._stack = stack

    @property
    def node(self) -> Node:
        """The throttled node. A migration uses the drive's own node, which is not throttled, as in QEMU."""
        top, device = self._stack.top, self.device
        is_throttled = device.throttle.limits and not is_elsewhere(top)  # or the other host does it
        return ThrottleFilter(top, device, self.gate) if is_throttled else top

    @property
    def accounts(self) -> Accounts:
        return self.device.accounts
