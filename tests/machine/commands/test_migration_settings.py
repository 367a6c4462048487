"""The human side's table of migration parameters and the machine's say the same, and the manual names all."""

from __future__ import annotations

import re

import pytest

from qmon.hmp.commands.migration_parameters import PARAMETERS as READ
from qmon.hmp.commands.migration_parameters import ParameterRow, parameter_lines, read_parameter
from qmon.hmp.tables.table import default_tables
from qmon.migration.capabilities import CAPABILITIES
from qmon.migration.parameters import PARAMETERS, ROWS, Kind

BY_NAME = {row.name: row for row in READ}
NO_UNIT_SHOWN = {"max-postcopy-bandwidth": "bytes/second"}
"""QEMU shows it without."""


BETWEEN_QEMUS = {"x-qmon-verify-copy"}
"""A console keeps them for the QEMU that it is connected to."""
HERE = [row for row in READ if row.name not in BETWEEN_QEMUS]


def test_both_know_the_same_parameters() -> None:
    assert sorted(BY_NAME) == sorted({*ROWS, *BETWEEN_QEMUS})
    assert len(HERE) == len(PARAMETERS)


@pytest.mark.parametrize("row", [row for row in HERE if row.shown], ids=lambda row: row.name)
def test_units_are_the_same(row: ParameterRow) -> None:
    unit = ROWS[row.name].unit.replace("%", "")
    assert row.unit.strip() == ("" if NO_UNIT_SHOWN.get(row.name) == unit else unit)


@pytest.mark.parametrize(
    "row", [row for row in PARAMETERS if row.kind is not Kind.MAPPING], ids=lambda r: r.name
)
def test_a_default_can_be_written_and_is_shown_as_it_was_read(row: object) -> None:
    name, default = row.name, row.default  # type: ignore[attr-defined]  # pytest's ids want a function of objects
    shown = {True: "on", False: "off"}.get(default, default) if isinstance(default, bool) else default
    text = f"{shown}B" if name in ("max-bandwidth", "avail-switchover-bandwidth") else str(shown)
    value = read_parameter(name, text)
    assert (type(value), value) == (type(default), default)
    if BY_NAME[name].shown:
        (line,) = parameter_lines({name: value})
        assert line.startswith(f"{name}: ")


def literals(command: str) -> list[str]:
    entry = default_tables().main.find(command)
    assert entry is not None
    return re.findall(r"``([\w-]+)``", entry.entry.documentation)


def test_the_manual_names_every_parameter_or_what_it_begins_with() -> None:
    named = literals("migrate_set_parameter")
    missing = [row.name for row in PARAMETERS if not any(row.name.startswith(word) for word in named)]
    assert missing == []


def test_the_manual_names_every_capability() -> None:
    assert [row.name for row in CAPABILITIES if row.name not in literals("migrate_set_capability")] == []
