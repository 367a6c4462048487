"""A throttle group: an object whose limits are checked, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from qmon.errors import CommandError
from qmon.machine.qom import Tree
from qmon.machine.throttle_limits import LENGTH, UNLIMITED, check_limits
from qmon.machine.user_object import UserObject
from qmon.notation.object_options import LIMIT_NAMES

LENGTH_MAX = (1 << 32) - 1
_PREFIX = "x-"

_SHOWN_ORDER = (
    *("bps-read-max-length", "iops-read-max-length", "bps-read-max", "bps-total", "iops-total-max-length"),
    *("iops-total", "iops-write-max", "bps-write", "bps-total-max", "bps-write-max", "iops-size"),
    *("iops-read", "iops-write-max-length", "iops-write", "bps-total-max-length", "iops-read-max"),
    *("bps-read", "bps-write-max-length", "iops-total-max"),
)
"""In which QEMU shows ThrottleLimits."""


class ThrottleGroup(UserObject):
    """Kept, with ``limits`` and each limit by itself as ``x-NAME``."""

    fixed: ClassVar[Mapping[str, str]] = {
        f"{_PREFIX}{name}": "Property cannot be set after initialization" for name in LIMIT_NAMES
    }

    def __init__(self, type_name: str, tree: Tree) -> None:
        super().__init__(type_name, tree)
        self.limits = dict(UNLIMITED)

    def show(self, name: str) -> Any:
        if name == "limits":
            return {limit: self.limits[limit] for limit in _SHOWN_ORDER}
        return self.limits[name.removeprefix(_PREFIX)]

    def store(self, name: str, value: Any) -> None:
        if name != "limits":
            self._store_one(name, value)
            return
        for limit, given in value.items():
            if limit.endswith(LENGTH) and given > LENGTH_MAX:
                raise CommandError(f"{limit} value must be in the range [0, {LENGTH_MAX}]")
        limits = {**self.limits, **value}
        check_limits(limits)
        self.limits = limits

    def _store_one(self, name: str, value: int) -> None:
        if value < 0:
            raise CommandError("Property values cannot be negative")
        if name.endswith(LENGTH) and value > LENGTH_MAX:
            raise CommandError(f"{name} value must be in therange [0, {LENGTH_MAX}]")
        self.limits[name.removeprefix(_PREFIX)] = value

    def check(self) -> None:
        check_limits(self.limits)
