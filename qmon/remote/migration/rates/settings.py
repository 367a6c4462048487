"""The migration parameters that a console keeps itself, as QEMU does not have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.remote.migration.rates.convergence import CopyMode

COPY_MODE = "x-qmon-copy-mode"
VERIFY_COPY = "x-qmon-verify-copy"

_CHOICES: dict[str, tuple[str, ...]] = {
    COPY_MODE: tuple(mode.value for mode in CopyMode),
    VERIFY_COPY: ("off", "sample", "full"),
}


_DEFAULTS = {COPY_MODE: CopyMode.AUTO.value, VERIFY_COPY: "sample"}
_MEANINGS = {
    COPY_MODE: (
        "How migrate blk copies the disks: behind the guest (background), with each of its writes waiting for"
        " the line (write-blocking), or so only if the copy would not end (auto)"
    ),
    VERIFY_COPY: (
        "How migrate blk compares the copies of the disks: not (off), by samples (sample), or all that no"
        " longer changes (full)"
    ),
}


def described() -> dict[str, list[dict[str, Any]]]:
    """Return what they mean, as the answer to ``x-qmon-query-migrate-settings``."""
    rows = [
        {
            "name": name,
            "unit": "",
            "default": _DEFAULTS[name],
            "meaning": _MEANINGS[name],
            "values": list(_CHOICES[name]),
        }
        for name in _CHOICES
    ]
    return {"parameters": rows, "capabilities": []}


class Settings:
    """Their values, by the names in ``migrate-set-parameters``."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = dict(_DEFAULTS)

    @property
    def copy_mode(self) -> CopyMode:
        return CopyMode(self.values[COPY_MODE])

    @property
    def verify_copy(self) -> str:
        return str(self.values[VERIFY_COPY])

    def take(
        self, arguments: Mapping[str, Any], why_not: Callable[[CopyMode], str | None] | None = None
    ) -> dict[str, Any]:
        """Set what is ours of the arguments; return the others. Raises CommandError.

        ``why_not`` says why the copies of a migration that runs can't be in a mode, None if they can.
        """
        ours = {name: value for name, value in arguments.items() if name in self.values}
        for name, value in ours.items():
            if value not in _CHOICES[name]:
                *most, last = _CHOICES[name]
                raise CommandError(f"Parameter '{name}' expects {', '.join(most)} or {last}")
        if COPY_MODE in ours and why_not and (why := why_not(CopyMode(ours[COPY_MODE]))):
            raise CommandError(f"Parameter '{COPY_MODE}' can't be {ours[COPY_MODE]} now: {why}")
        self.values |= ours
        return {name: value for name, value in arguments.items() if name not in ours}
