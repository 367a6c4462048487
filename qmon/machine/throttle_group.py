"""The limits of a throttle group, checked as QEMU checks them (QEMU: util/throttle.c).

The group itself is kept. A limit is a rate, the burst that may pass above it, and for how many seconds
the burst may last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from qmon.errors import CommandError
from qmon.machine.qom import Tree
from qmon.machine.user_object import UserObject
from qmon.object_options import LIMIT_NAMES

VALUE_MAX = 1_000_000_000_000_000
LENGTH_MAX = (1 << 32) - 1
_PREFIX = "x-"
_LENGTH = "-max-length"

_SHOWN_ORDER = (
    *("bps-read-max-length", "iops-read-max-length", "bps-read-max", "bps-total", "iops-total-max-length"),
    *("iops-total", "iops-write-max", "bps-write", "bps-total-max", "bps-write-max", "iops-size"),
    *("iops-read", "iops-write-max-length", "iops-write", "bps-total-max-length", "iops-read-max"),
    *("bps-read", "bps-write-max-length", "iops-total-max"),
)
"""In which QEMU shows ThrottleLimits."""


def check_limits(limits: Mapping[str, int]) -> None:
    """Check limits by the names of ThrottleLimits, all of them. Raises CommandError with QEMU's words."""
    for end in ("", "-max"):
        for unit in ("bps", "iops"):
            total, read, write = (limits[f"{unit}-{what}{end}"] for what in ("total", "read", "write"))
            if total and (read or write):
                raise CommandError(
                    "bps/iops/max total values and read/write values cannot be used at the same time"
                )
    if limits["iops-size"] and not any(limits[f"iops-{what}"] for what in ("total", "read", "write")):
        raise CommandError("iops size requires an iops value to be set")
    for unit in ("bps", "iops"):
        for what in ("total", "read", "write"):
            name = f"{unit}-{what}"
            _check_limit(limits[name], limits[f"{name}-max"], limits[f"{name}{_LENGTH}"])


def _check_limit(rate: int, burst: int, length: int) -> None:
    if not (0 <= rate <= VALUE_MAX and 0 <= burst <= VALUE_MAX):
        raise CommandError(f"bps/iops/max values must be within [0, {VALUE_MAX}]")
    if not length:
        raise CommandError("the burst length cannot be 0")
    if length != 1 and not burst:
        raise CommandError("burst length set without burst rate")
    if burst and not 0 < length <= VALUE_MAX // burst:
        raise CommandError("burst length too high for this burst rate")
    if burst and not rate:
        raise CommandError("bps_max/iops_max require corresponding bps/iops values")
    if burst and burst < rate:
        raise CommandError("bps_max/iops_max cannot be lower than bps/iops")


class ThrottleGroup(UserObject):
    """Kept, with ``limits`` and each limit by itself as ``x-NAME``."""

    fixed: ClassVar[Mapping[str, str]] = {
        f"{_PREFIX}{name}": "Property cannot be set after initialization" for name in LIMIT_NAMES
    }

    def __init__(self, type_name: str, tree: Tree) -> None:
        super().__init__(type_name, tree)
        self.limits = {name: int(name.endswith(_LENGTH)) for name in LIMIT_NAMES}

    def show(self, name: str) -> Any:
        if name == "limits":
            return {limit: self.limits[limit] for limit in _SHOWN_ORDER}
        return self.limits[name.removeprefix(_PREFIX)]

    def store(self, name: str, value: Any) -> None:
        if name != "limits":
            self._store_one(name, value)
            return
        for limit, given in value.items():
            if limit.endswith(_LENGTH) and given > LENGTH_MAX:
                raise CommandError(f"{limit} value must be in the range [0, {LENGTH_MAX}]")
        limits = {**self.limits, **value}
        check_limits(limits)
        self.limits = limits

    def _store_one(self, name: str, value: int) -> None:
        if value < 0:
            raise CommandError("Property values cannot be negative")
        if name.endswith(_LENGTH) and value > LENGTH_MAX:
            raise CommandError(f"{name} value must be in therange [0, {LENGTH_MAX}]")
        self.limits[name.removeprefix(_PREFIX)] = value

    def check(self) -> None:
        check_limits(self.limits)
