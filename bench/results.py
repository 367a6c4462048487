"""What was measured, for the manual's page of figures.

With ``QMON_BENCH_RESULTS=FOLDER`` a benchmark writes its table to ``FOLDER/NAME.json``; ``bench.plots`` makes
the plots from these files, and the manual the tables.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "QMON_BENCH_RESULTS"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of figures: its title with the unit, how a figure is written, and whether it is plotted."""

    title: str
    format: str = "{:.2f}"
    plotted: bool = False


Row = tuple[str, Sequence[float | None]]
"""The name of what was measured, and one figure for each column; None for a figure that was not measured."""


def keep(name: str, what: str, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Write a table into FOLDER, if that is set. ``what`` describes the work, the runs and the figures."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return
    machine = f"{os.cpu_count()} cores, Linux {platform.release().partition('-')[0]}"
    table = {
        "what": what,
        "measured": f"{datetime.date.today()}, {machine}, Python {platform.python_version()}",
        "columns": [asdict(column) for column in columns],
        "rows": [
            {"name": name, "figures": [each and round(each, 4) for each in figures]} for name, figures in rows
        ],
    }
    Path(folder, f"{name}.json").write_text(json.dumps(table, indent=1) + "\n")
