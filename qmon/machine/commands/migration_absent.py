"""Migration commands that are about guest RAM or network cards, of which this machine has none."""

from __future__ import annotations

import time
from typing import Any, Literal

from qmon.errors import CommandError
from qmon.qmp.registry import command
from qmon.qmp.schema import Uint64

MAX_SECONDS = 60
MIN_SAMPLES, MAX_SAMPLES, USUAL_SAMPLES = 128, 16384, 512
"""Pages of each GiB that are looked at."""

_NO_LIMIT = "dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'"


class MigrationAbsentCommands:
    """What QEMU with ``-M none`` answers to them; measuring the rate of writes to no RAM is over at once."""

    def __init__(self) -> None:
        self._measured: dict[str, Any] = {
            "status": "unstarted",
            "sample-pages": 0,
            "mode": "page-sampling",
            "start-time": 0,
            "calc-time": 0,
        }

    @command("calc-dirty-rate")
    async def calculate(
        self,
        calc_time: int,
        sample_pages: int | None = None,
        mode: Literal["page-sampling", "dirty-ring", "dirty-bitmap"] | None = None,
    ) -> dict[str, Any]:
        if not 1 <= calc_time <= MAX_SECONDS:
            raise CommandError(f"calc-time is out of range[1, {MAX_SECONDS}].")
        if sample_pages is not None and mode == "dirty-ring":
            raise CommandError("either sample-pages or dirty-ring can be specified.")
        if sample_pages is not None and not MIN_SAMPLES <= sample_pages <= MAX_SAMPLES:
            raise CommandError(f"sample-pages is out of range[{MIN_SAMPLES}, {MAX_SAMPLES}].")
        if mode not in (None, "page-sampling"):
            raise CommandError(f"mode {mode} is not enabled, use other method instead.")
        self._measured = {
            "status": "measured",
            "sample-pages": sample_pages or USUAL_SAMPLES,
            "dirty-rate": -1,
            "mode": "page-sampling",
            "start-time": int(time.monotonic()),
            "calc-time": calc_time,
        }
        return {}

    @command("query-dirty-rate")
    async def query(self) -> dict[str, Any]:
        return dict(self._measured)

    @command("set-vcpu-dirty-limit")
    async def set_limit(self, dirty_rate: Uint64, cpu_index: int | None = None) -> dict[str, Any]:
        raise CommandError(_NO_LIMIT)

    @command("cancel-vcpu-dirty-limit")
    async def cancel_limit(self, cpu_index: int | None = None) -> dict[str, Any]:
        """Nothing is limited, which is what is wanted."""
        return {}

    @command("announce-self")
    async def announce(
        self,
        initial: int,
        max: int,
        rounds: int,
        step: int,
        interfaces: list[str] | None = None,
        id: str | None = None,
    ) -> dict[str, Any]:
        """There is no network card to announce."""
        return {}
