"""What ``help`` says about the parameters and capabilities of migrations: a list of those that matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.hmp.commands.columns import paragraph
from qmon.hmp.commands.migration_parameters import BY_NAME
from qmon.hmp.handlers import EVERYTHING, Call, explains
from qmon.notation.units import human_size

_NO_EFFECT = "No effect"
"""How the meaning of a setting begins that the machine has no use for."""

Row = Mapping[str, Any]


def has_effect(row: Row | None) -> bool:
    """Whether a setting has an effect, as far as the target's description of it says."""
    return row is None or not row["meaning"].startswith(_NO_EFFECT)


async def _told(call: Call, kind: str) -> list[Row]:
    """Return the target's descriptions of its settings, [] if it has none."""
    query = "x-qmon-query-migrate-settings"
    return (await call.execute(query))[kind] if call.has(query) else []


@explains("hmp_migrate_set_parameter")
async def parameters(call: Call, everything: bool) -> list[str]:
    rows = [row for row in await _told(call, "parameters") if row["name"] in BY_NAME]
    rows.sort(key=lambda row: not row["unit"])  # limits before switches and names
    present = await call.execute("query-migrate-parameters") if rows else {}
    texts = {row["name"]: _parameter(row, present.get(row["name"], row["default"])) for row in rows}
    return _lines(call, rows, texts, everything)


@explains("hmp_migrate_set_capability")
async def capabilities(call: Call, everything: bool) -> list[str]:
    rows = await _told(call, "capabilities")
    texts = {row["name"]: ("on" if row["state"] else "off", f"{row['meaning']}.") for row in rows}
    return _lines(call, rows, texts, everything)


def _parameter(row: Row, value: Any) -> tuple[str, str]:
    """Return a parameter's value and its meaning."""
    default = _shown(row["default"], row["unit"])
    shown = _shown(value, row["unit"])
    words = "" if isinstance(row["default"], bool) else " or ".join(row["values"])
    takes = "" if not words or all(word in row["meaning"] for word in row["values"]) else f"Takes {words}."
    meaning = " ".join(part for part in (f"{row['meaning']}.", BY_NAME[row["name"]].written, takes) if part)
    return (f"{shown}, the default" if shown == default else f"{shown} (default: {default})"), meaning


def _shown(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value in (None, "", []):
        return "none"
    if unit.startswith("bytes"):
        return human_size(value) + "/s" * unit.endswith("/second")
    return f"{value} {unit}".rstrip()


def _lines(call: Call, rows: list[Row], texts: Mapping[str, tuple[str, str]], everything: bool) -> list[str]:
    """Return the settings that are named after the command; else all that have an effect."""
    command, *named = call.text("name").replace(EVERYTHING, "").split()
    chosen = [row for row in rows if row["name"] in named]
    if not chosen:
        chosen = [row for row in rows if everything or has_effect(row)]
    lines: list[str] = []
    for row in chosen:
        value, meaning = texts[row["name"]]
        lines += [f"  {row['name']}: {value}", *paragraph(meaning, "      ")]
    if len(chosen) < len(rows) and not named:
        hidden = len(rows) - len(chosen)
        lines.append(f"  {hidden} others have no effect on this machine: help {EVERYTHING} {command}")
    return lines
