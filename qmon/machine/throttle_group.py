"""``throttle-group``: a group of limits, checked as in QEMU, and the groups by their names."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakValueDictionary

from qmon.block.throttle import Limits, Throttle
from qmon.errors import CommandError
from qmon.machine.device import Device
from qmon.machine.throttle_limits import LENGTH, UNLIMITED, check_limits, read_limits
from qmon.machine.user_object import UserObject

LENGTH_MAX = (1 << 32) - 1
_PREFIX = "x-"


class ThrottleGroup(UserObject):
    """The limits are options: all in ``limits``, or each as ``x-NAME``."""

    throttle: Throttle
    """The group, which disks may change. It lives at least as long as the object."""

    def check(self, objects: Mapping[str, UserObject]) -> None:
        for name, value in self.options.get("limits", {}).items():
            if name.endswith(LENGTH) and value > LENGTH_MAX:
                raise CommandError(f"{name} value must be in the range [0, {LENGTH_MAX}]")
        for name, value in self.options.items():
            if not name.startswith(_PREFIX):
                continue
            if value < 0:
                raise CommandError("Property values cannot be negative")
            if name.endswith(LENGTH) and value > LENGTH_MAX:
                raise CommandError(f"{name} value must be in therange [0, {LENGTH_MAX}]")
        check_limits({**UNLIMITED, **self.limits})

    @property
    def limits(self) -> dict[str, int]:
        """The limits that were given, a ThrottleLimits."""
        given: dict[str, int] = dict(self.options.get("limits", {}))
        single = {name for name in self.options if name.startswith(_PREFIX)}
        return {**given, **{name.removeprefix(_PREFIX): self.options[name] for name in single}}


class ThrottleGroups:
    """The groups that have an object or disks. A disk's own limits make a group of its name."""

    def __init__(self) -> None:
        self._groups: WeakValueDictionary[str, Throttle] = WeakValueDictionary()

    def found(self, id: str, group: ThrottleGroup) -> None:
        """Make the group of a new object. Raises CommandError if disks have one of this name."""
        if id in self._groups:
            raise CommandError("A group with this name already exists")
        group.throttle = self._groups[id] = Throttle(id)
        group.throttle.set(read_limits(group.limits))

    def limit(self, device: Device, limits: Limits, group: str | None) -> None:
        """Set a device's limits, which are those of all disks of its group.

        ``group`` None: the one that it is in, else one with its own name. Without limits it leaves its group.
        """
        if not limits:
            device.throttle = Throttle()
            return
        if group is not None or not device.throttle.limits:
            name = device.id if group is None else group
            throttle = self._groups.get(name)
            if throttle is None:
                throttle = self._groups[name] = Throttle(name)
            device.throttle = throttle
        device.throttle.set(limits)
