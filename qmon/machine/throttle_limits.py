"""Checks QAPI's ThrottleLimits as QEMU does (util/throttle.c), and converts them to the limits of a disk.

A limit is a rate per second, a higher rate for bursts, and the seconds that a burst may last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.block.throttle import Limits
from qmon.errors import CommandError
from qmon.notation.object_options import LIMIT_NAMES
from qmon.notation.visit import Form, Struct, Unsigned

VALUE_MAX = 1_000_000_000_000_000
LENGTH = "-max-length"

_KINDS = Struct({name: Unsigned() for name in LIMIT_NAMES})
"""A drive's limits are unsigned; those of a throttle-group object are signed."""

UNLIMITED: Mapping[str, int] = {name: int(name.endswith(LENGTH)) for name in LIMIT_NAMES}

_FIELDS = {
    "iops-size": "iops_size",
    **{
        f"{unit}-{what}{end}": f"{unit}{short}{end.replace('-', '_')}"
        for unit in ("bps", "iops")
        for what, short in (("total", ""), ("read", "_rd"), ("write", "_wr"))
        for end in ("", "-max", LENGTH)
    },
}
"""By name in ThrottleLimits: the field of Limits, named as in block_set_io_throttle."""


def read_limits(given: Mapping[str, Any]) -> Limits:
    """Convert a ThrottleLimits to a disk's limits. Raises UsageError or CommandError with QEMU's message."""
    _KINDS.read(given, Form.JSON, ("throttling",))
    check_limits({**UNLIMITED, **given})
    return Limits(**{_FIELDS[name]: value for name, value in given.items()})


def named(limits: Limits) -> dict[str, int]:
    """Return a disk's limits by the names in ThrottleLimits."""
    return {name: getattr(limits, field) for name, field in _FIELDS.items()}


def check_limits(limits: Mapping[str, int]) -> None:
    """Check all limits, given by their names in ThrottleLimits. Raises CommandError with QEMU's message."""
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
            _check_limit(limits[name], limits[f"{name}-max"], limits[f"{name}{LENGTH}"])


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
