"""A migration's parameters: one row each, and the values that hold now (QAPI: MigrationParameters)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qmon.errors import CommandError


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter's row: QMP name, unit, default, largest value allowed, and what it means."""

    name: str
    unit: str
    default: int
    largest: int
    expects: str
    meaning: str


PARAMETERS = (
    Parameter(
        "max-bandwidth",
        "bytes/second",
        128 << 20,
        (1 << 64) - 1,
        "an integer in the range of 0 to 18446744073709551615 bytes/second",
        "Most bytes a second that a migration sends; 0 sets no limit",
    ),
    Parameter(
        "downtime-limit",
        "ms",
        300,
        2_000_000,
        "an integer in the range of 0 to (2000 * 1000) ms",
        "Longest time in ms that the machine may stand still at the switchover",
    ),
)
ROWS = {row.name: row for row in PARAMETERS}


class Parameters:
    """The current values; set on the loop, read by data threads while they work."""

    def __init__(self) -> None:
        self._values = {row.name: row.default for row in PARAMETERS}

    def set(self, values: Mapping[str, int]) -> None:
        """Change values, all or none. Raises CommandError for one out of range."""
        for name, value in values.items():
            row = ROWS[name]
            if not 0 <= value <= row.largest:
                raise CommandError(f"Parameter '{name.replace('-', '_')}' expects {row.expects}")
        self._values.update(values)

    def all(self) -> dict[str, int]:
        """Every parameter by its QMP name."""
        return dict(self._values)

    @property
    def max_bandwidth(self) -> int:
        """Bytes a second, 0 for no limit."""
        return self._values["max-bandwidth"]

    @property
    def downtime_limit_ms(self) -> int:
        return self._values["downtime-limit"]
