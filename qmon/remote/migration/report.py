"""What each side answers to ``query-migrate``: QAPI's MigrationInfo, named as by the embedded machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qmon.notation.plain_text import one_line
from qmon.remote.migration.agreement.matching import Plan
from qmon.remote.migration.phases import Phase

_DISKS_MAX = 64
_TEXT_MAX = 400
_LINES_MAX = 64
_NUMBER_MAX = (1 << 63) - 1

_SIZES = ("total", "remaining", "transferred")
_RAM = (
    *_SIZES,
    *"""duplicate normal normal-bytes dirty-pages-rate mbps dirty-sync-count page-size pages-per-second
    precopy-bytes downtime-bytes multifd-bytes""".split(),
)
_NUMBERS = """
    total-time downtime expected-downtime setup-time x-qmon-send-rate x-qmon-guest-write-rate
    x-qmon-dirty-pages-rate x-qmon-remaining-time
    """.split()
_TEXTS = ("x-qmon-verified", "x-qmon-line")

_OF_THE_COPY = (
    "x-qmon-send-rate",
    "x-qmon-guest-write-rate",
    "x-qmon-dirty-pages-rate",
    "x-qmon-remaining-time",
    "x-qmon-not-converging",
)
"""What means nothing when everything is sent."""

Fields = Mapping[str, Any]


def plan_info(plan: Plan | None) -> dict[str, Any]:
    """Return what stays behind, and by what each drive was matched."""
    if plan is None:
        return {}
    disks = [{"drive": each.source.name, "transferred": 0, "matched-by": each.by} for each in plan.pairs]
    return {"x-qmon-disks": disks, "x-qmon-stays-behind": list(plan.left_behind)}


def merged(plan: Fields, figures: Fields) -> dict[str, Any]:
    """Return the figures with what ``plan_info`` knows; the disks of both are joined by their names."""
    info = {**plan, **figures}
    if plan and "x-qmon-disks" in figures:
        by = {each["drive"]: each for each in plan["x-qmon-disks"]}
        info["x-qmon-disks"] = [{**by.get(each["drive"], {}), **each} for each in figures["x-qmon-disks"]]
    return info


def whole(info: Fields) -> dict[str, Any]:
    """Return the figures of a migration that has completed: nothing is left."""
    left = {**info}
    for part in ("disk", "ram"):
        if part in info:
            left[part] = {**info[part], "remaining": 0}
    if "x-qmon-disks" in info:
        left["x-qmon-disks"] = [{**each, "remaining": 0} for each in info["x-qmon-disks"]]
    for name in _OF_THE_COPY:
        left.pop(name, None)
    return left


def has_ended_well(phase: Phase) -> bool:
    """Whether nothing is left to be sent."""
    return phase in (Phase.COMPLETED, Phase.SETTLED)


def read_figures(data: Fields) -> dict[str, Any]:
    """Return what is right in a source's figures, which may be anything; the rest is left out."""
    found: dict[str, Any] = {}
    for part, names in (("disk", _SIZES), ("ram", _RAM)):
        if (numbers := _numbers(data.get(part), names)) is not None:
            found[part] = numbers
    found |= {name: int(value) for name, value in (_numbers(data, _NUMBERS, ()) or {}).items()}
    found |= {name: _text(data[name]) for name in _TEXTS if isinstance(data.get(name), str)}
    if (disks := _disks(data.get("x-qmon-disks"))) is not None:
        found["x-qmon-disks"] = disks
    behind = data.get("x-qmon-stays-behind")
    if isinstance(behind, list):
        found["x-qmon-stays-behind"] = [_text(each) for each in behind[:_LINES_MAX] if isinstance(each, str)]
    return found | _advice(data.get("x-qmon-not-converging"))


def _numbers(data: Any, names: Any, needed: tuple[str, ...] = _SIZES) -> dict[str, int | float] | None:
    """Return the numbers of these names; None if one that is needed is missing."""
    if not isinstance(data, Mapping):
        return None
    found = {name: data[name] for name in names if _is_number(data.get(name))}
    return found if all(name in found for name in needed) else None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= _NUMBER_MAX


def _disks(data: Any) -> list[dict[str, Any]] | None:
    if not isinstance(data, list):
        return None
    found = []
    for each in data[:_DISKS_MAX]:
        sizes = _numbers(each, _SIZES, ("transferred",))
        if sizes is None or not isinstance(each.get("drive"), str):
            return None
        by = each.get("matched-by")
        named = {"matched-by": _text(by)} if isinstance(by, str) else {}
        found.append({"drive": _text(each["drive"]), **sizes, **named})
    return found


def _advice(data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping) or not _is_number(data.get("value")):
        return {}
    texts = {name: data.get(name) for name in ("reason", "parameter")}
    if not all(isinstance(text, str) for text in texts.values()):
        return {}
    advice = {name: _text(str(text)) for name, text in texts.items()}
    return {"x-qmon-not-converging": {**advice, "value": int(data["value"])}}


def _text(text: str) -> str:
    return one_line(text[:_TEXT_MAX])
