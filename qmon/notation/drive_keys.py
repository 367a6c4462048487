"""The keys of a drive option string (QEMU: blockdev.c), and their valid values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qmon.errors import UsageError
from qmon.notation.keyval import parse_number, parse_switch
from qmon.notation.object_options import LIMIT_NAMES

THROTTLING = "throttling."

_OURS = frozenset(
    [
        "file",
        "id",
        "format",
        "driver",
        "if",
        "read-only",
        "index",
        "bus",
        "unit",
        "media",
        "snapshot",
        "force-share",
        "node-name",
        "detect-zeroes",
        "throttling.group",
    ]
)
_SWITCHES = frozenset(
    [
        "cache.direct",
        "cache.no-flush",
        "cache.writeback",
        "copy-on-read",
        "auto-read-only",
        "force-share",
        "stats-account-failed",
        "stats-account-invalid",
    ]
)
_LIMITS = frozenset(f"{THROTTLING}{name}" for name in LIMIT_NAMES)
_CACHE = {"cache", "cache.direct", "cache.no-flush", "cache.writeback"}
_WITHOUT_EFFECT = (_SWITCHES - _CACHE - {"force-share"}) | {
    "aio",
    "discard",
    "rerror",
    "werror",
}

_ALIASES = {
    "group": "throttling.group",
    "iops_size": "throttling.iops-size",
    **{
        f"{unit}{short}{end}": f"{THROTTLING}{unit}-{what}{end.replace('_', '-')}"
        for unit in ("bps", "iops")
        for short, what in (("", "total"), ("_rd", "read"), ("_wr", "write"))
        for end in ("", "_max")
    },
    "readonly": "read-only",
}
"""QEMU's older names of keys."""

_CHOICES = {
    "cache": ("none off directsync writeback unsafe writethrough", "invalid cache option"),
    "aio": ("threads native io_uring", "invalid aio option"),
    "detect-zeroes": ("off on unmap", "invalid parameter value: {}"),
    "werror": ("ignore enospc stop report", "'{}' invalid write error action"),
    "rerror": ("ignore stop report", "'{}' invalid read error action"),
    "discard": ("ignore off unmap on", "Invalid discard option"),
}
"""By key: the valid values, and QEMU's message for another value."""


def is_known_key(key: str) -> bool:
    """Whether a drive accepts a key, with effect or without."""
    return key in _OURS or key in _CACHE or key in _ALIASES or key in _LIMITS or _is_without_effect(key)


def without_effect(keys: Mapping[str, str]) -> list[str]:
    """Return the known keys that are accepted but have no effect here."""
    return [key for key in keys if _is_without_effect(key)]


def _is_without_effect(key: str) -> bool:
    return key in _WITHOUT_EFFECT or key.startswith("stats-intervals.")


def check_aliases(keys: Mapping[str, str]) -> None:
    """Raises UsageError if a key is given under both its names."""
    for alias, name in _ALIASES.items():
        if alias in keys and name in keys:
            raise UsageError(f"'{name}' and its alias '{alias}' can't be used at the same time")


def check_values(keys: Mapping[str, str], *names: str) -> None:
    """Check the values of the switches and choices in ``names`` that are given.

    Raises UsageError with QEMU's message.
    """
    for name in names:
        if name in _SWITCHES and name in keys:
            parse_switch(name, keys[name])
        elif name in keys and keys[name] not in _CHOICES[name][0].split():
            raise UsageError(_CHOICES[name][1].format(keys[name]))


def read_limits(keys: Mapping[str, str]) -> dict[str, int]:
    """Return the given limits by QAPI's names (ThrottleLimits). Raises UsageError with QEMU's message."""
    return dict(_read_limits(keys))


def _read_limits(keys: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for key, value in keys.items():
        name = _ALIASES.get(key, key)
        if name in _LIMITS:
            yield name.removeprefix(THROTTLING), parse_number(name, value)


def read_group(keys: Mapping[str, str]) -> str | None:
    """Return the name of the limits' throttle group, None if none is given."""
    return keys.get("throttling.group", keys.get("group"))
