"""Migration parameters: a table, and the current values (QAPI: MigrationParameters)."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qmon.errors import CommandError
from qmon.migration.bitmap_mapping import check_mapping

Values = Mapping[str, Any]
"""Parameters by their QMP names."""


class CopyMode(enum.Enum):
    """The values of x-qmon-copy-mode (QAPI: MirrorCopyMode)."""

    BACKGROUND = "background"
    WRITE_BLOCKING = "write-blocking"


class Kind(enum.Enum):
    """The type of a parameter's value."""

    UINT8 = "a number up to 255"
    UINT32 = "a number up to 4294967295"
    UINT64 = "a number"
    SWITCH = "on or off"
    TEXT = "text"
    CHOICE = "one of its words"
    MAPPING = "aliases of node and bitmap names"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter's row.

    ``allowed`` is the valid range in QEMU's words, "" if every value of the kind is valid; ``fits`` checks a
    value against it, given all the others. ``later``: the parameter is QEMU 10's or qmon's own, not QEMU
    7.2's; it is shown only if it differs from its default. A ``meaning`` of "No effect" marks parameters of
    guest RAM, processors or network cards, which this machine does not have.
    """

    name: str
    kind: Kind
    default: Any
    meaning: str
    unit: str = ""
    allowed: str = ""
    fits: Callable[[Any, Values], bool] = lambda value, others: True
    choices: tuple[str, ...] = ()
    later: bool = False


def _between(least: int, greatest: int) -> Callable[[Any, Values], bool]:
    return lambda value, others: least <= value <= greatest


def _is_cache_size(value: int, others: Values) -> bool:
    return value >= PAGE_SIZE and value & (value - 1) == 0


def _is_greatest_throttle(value: int, others: Values) -> bool:
    return bool(others["cpu-throttle-initial"] <= value <= 99)


PAGE_SIZE = 4096
UINT64_MAX = (1 << 64) - 1
NO_CARDS = "No effect: the machine has no network cards"
NO_PROCESSORS = "No effect: the machine has no CPU"
NO_MEMORY = "No effect: the machine has no RAM"
NOT_PAUSABLE = "migrate-pause is currently only supported during postcopy-active state"
_THOUSANDS = "a value between 0 and 100000"
_LEVEL = "a value between 0 and 9"
_COUNT = "a value between 1 and 255"
_PERCENT = "an integer in the range of 1 to 99"

PARAMETERS = (
    Parameter("announce-initial", Kind.UINT64, 50, NO_CARDS, "ms", _THOUSANDS, _between(0, 100_000)),
    Parameter("announce-max", Kind.UINT64, 550, NO_CARDS, "ms", _THOUSANDS, _between(0, 100_000)),
    Parameter(
        "announce-rounds", Kind.UINT64, 5, NO_CARDS, "", "a value between 0 and 1000", _between(0, 1000)
    ),
    Parameter(
        "announce-step", Kind.UINT64, 100, NO_CARDS, "ms", "a value between 0 and 10000", _between(1, 10_000)
    ),
    Parameter("compress-level", Kind.UINT8, 1, NO_MEMORY, "", _LEVEL, _between(0, 9)),
    Parameter("compress-threads", Kind.UINT8, 8, NO_MEMORY, "", _COUNT, _between(1, 255)),
    Parameter("compress-wait-thread", Kind.SWITCH, True, NO_MEMORY),
    Parameter("decompress-threads", Kind.UINT8, 2, NO_MEMORY, "", _COUNT, _between(1, 255)),
    Parameter(
        "throttle-trigger-threshold",
        Kind.UINT8,
        50,
        "auto-converge: hold back more when guests write more than this share of what is copied",
        "%",
        "an integer in the range of 1 to 100",
        _between(1, 100),
    ),
    Parameter(
        "cpu-throttle-initial",
        Kind.UINT8,
        20,
        "auto-converge: share of the guests' writes to hold back at first",
        "%",
        _PERCENT,
        _between(1, 99),
    ),
    Parameter(
        "cpu-throttle-increment",
        Kind.UINT8,
        10,
        "auto-converge: how much more to hold back at each step",
        "%",
        _PERCENT,
        _between(1, 99),
    ),
    Parameter(
        "cpu-throttle-tailslow",
        Kind.SWITCH,
        False,
        "auto-converge: take smaller steps when little is missing",
    ),
    Parameter(
        "tls-creds",
        Kind.TEXT,
        "",
        "TLS credentials of migrations, an object's id; empty: no TLS",
    ),
    Parameter("tls-hostname", Kind.TEXT, "", "Host name that the destination's certificate must contain"),
    Parameter("tls-authz", Kind.TEXT, "", "Authorization object that accepts or refuses certificates"),
    Parameter(
        "max-bandwidth",
        Kind.UINT64,
        128 << 20,
        "Most bytes to send per second; 0: no limit",
        "bytes/second",
        f"an integer in the range of 0 to {UINT64_MAX} bytes/second",
        _between(0, UINT64_MAX),
    ),
    Parameter(
        "avail-switchover-bandwidth",
        Kind.UINT64,
        0,
        "Bytes per second assumed for the switchover when planning it; 0: the measured rate",
        "bytes/second",
        f"an integer in the range of 0 to {UINT64_MAX} bytes/second",
        _between(0, UINT64_MAX),
        later=True,
    ),
    Parameter(
        "downtime-limit",
        Kind.UINT64,
        300,
        "Longest time to stop the machine at the switchover",
        "ms",
        "an integer in the range of 0 to (2000 * 1000) ms",
        _between(0, 2_000_000),
    ),
    Parameter("x-checkpoint-delay", Kind.UINT32, 20_000, "No effect: there is no COLO", "ms"),
    Parameter(
        "block-incremental",
        Kind.SWITCH,
        False,
        "With the capability block: copy the disks, but not their backing images, as migrate -i does",
    ),
    Parameter(
        "multifd-channels",
        Kind.UINT8,
        2,
        "multifd: how many connections for data",
        "",
        _COUNT,
        _between(1, 255),
    ),
    Parameter(
        "xbzrle-cache-size",
        Kind.UINT64,
        64 << 20,
        NO_MEMORY,
        "bytes",
        "a power of two no less than the target page size",
        _is_cache_size,
    ),
    Parameter("max-postcopy-bandwidth", Kind.UINT64, 0, NO_MEMORY, "bytes/second"),
    Parameter(
        "max-cpu-throttle",
        Kind.UINT8,
        99,
        "auto-converge: most of the guests' writes to hold back",
        "%",
        "an integer in the range of cpu_throttle_initial to 99",
        _is_greatest_throttle,
    ),
    Parameter(
        "multifd-compression",
        Kind.CHOICE,
        "none",
        "multifd: compress data by this method",
        choices=("none", "zlib", "zstd"),
    ),
    Parameter("multifd-zlib-level", Kind.UINT8, 1, "multifd: effort of zlib, at most 9"),
    Parameter("multifd-zstd-level", Kind.UINT8, 1, "multifd: effort of zstd, at most 19"),
    Parameter(
        "multifd-qatzip-level",
        Kind.UINT8,
        1,
        NO_MEMORY,
        "",
        "a value between 1 and 9",
        _between(1, 9),
        later=True,
    ),
    Parameter(
        "block-bitmap-mapping",
        Kind.MAPPING,
        None,
        "Aliases of dirty bitmaps, for the capability dirty-bitmaps; unset: all, by their own names",
    ),
    Parameter(
        "x-vcpu-dirty-limit-period",
        Kind.UINT64,
        1000,
        NO_PROCESSORS,
        "ms",
        "a value between 1 and 1000",
        _between(1, 1000),
        later=True,
    ),
    Parameter(
        "vcpu-dirty-limit",
        Kind.UINT64,
        1,
        NO_PROCESSORS,
        "MB/s",
        "a value of at least 1 MB/s",
        _between(1, UINT64_MAX),
        later=True,
    ),
    Parameter(
        "mode",
        Kind.CHOICE,
        "normal",
        "How to migrate. In any mode but normal, migrations are refused",
        choices=("normal", "cpr-reboot", "cpr-transfer"),
        later=True,
    ),
    Parameter(
        "zero-page-detection",
        Kind.CHOICE,
        "multifd",
        NO_MEMORY,
        choices=("none", "legacy", "multifd"),
        later=True,
    ),
    Parameter("direct-io", Kind.SWITCH, False, "No effect: there are no migrations into a file", later=True),
    Parameter(
        "x-qmon-verify-backing",
        Kind.CHOICE,
        "sample",
        "How to compare data that is not copied (backing images, read-only drives): by samples (sample),"
        " completely (full) or by size only (off)",
        choices=("off", "sample", "full"),
        later=True,
    ),
    Parameter(
        "x-qmon-copy-mode",
        Kind.CHOICE,
        CopyMode.BACKGROUND.value,
        "How guests write during a copy: at their own pace (background), or each write waits until it is on"
        " both sides (write-blocking)",
        choices=tuple(mode.value for mode in CopyMode),
        later=True,
    ),
)
"""In QEMU's order, then qmon's own."""

ROWS = {row.name: row for row in PARAMETERS}

_CHECKED = sorted(PARAMETERS, key=lambda row: row.name.startswith("announce"))
"""In the order in which QEMU checks the ranges: only the first error is reported."""

NOT_PLAIN = "Zero copy only available for non-compressed non-TLS multifd migration"


class Parameters:
    """The current values. Set them on the loop's thread; data threads may read them at any time."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {row.name: row.default for row in PARAMETERS}

    def set(self, values: Values, *, zero_copy: bool = False) -> None:
        """Change values of the right kinds, all of them or none.

        ``zero_copy`` says whether the capability zero-copy-send is on. Raises CommandError for a value out of
        range or an invalid combination.
        """
        changed = {**self._values, **values}
        for row in _CHECKED:
            value = changed[row.name]
            if not row.fits(value, changed):
                raise CommandError(f"Parameter '{row.name.replace('-', '_')}' expects {row.allowed}")
        if changed["block-bitmap-mapping"] is not None:
            check_mapping(changed["block-bitmap-mapping"])
        if zero_copy and not _is_plain(changed):
            raise CommandError(NOT_PLAIN)
        self._values = changed

    def all(self) -> dict[str, Any]:
        """Return the values of all parameters by their QMP names."""
        return dict(self._values)

    def shown(self) -> dict[str, Any]:
        """Return the values of QEMU 7.2's parameters, and of later ones that differ from their default."""
        return {
            row.name: value
            for row in PARAMETERS
            if (value := self._values[row.name]) != row.default or not (row.later or row.kind is Kind.MAPPING)
        }

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    @property
    def is_plain(self) -> bool:
        """Whether nothing is compressed or encrypted."""
        return _is_plain(self._values)

    @property
    def max_bandwidth(self) -> int:
        """Bytes per second; 0: no limit."""
        return int(self._values["max-bandwidth"])

    @property
    def switchover_bandwidth(self) -> int:
        """Bytes per second to expect at the switchover; 0: use the measured rate."""
        return int(self._values["avail-switchover-bandwidth"])

    @property
    def verify_backing(self) -> str:
        """How to compare data that is not copied: ``off``, ``sample`` or ``full``."""
        return str(self._values["x-qmon-verify-backing"])

    @property
    def copy_mode(self) -> CopyMode:
        return CopyMode(self._values["x-qmon-copy-mode"])

    @property
    def downtime_limit_ms(self) -> int:
        return int(self._values["downtime-limit"])


def _is_plain(values: Values) -> bool:
    return values["multifd-compression"] == "none" and not values["tls-creds"]
