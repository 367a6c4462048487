"""The plots of the manual's page of figures.

    python -m bench.plots FOLDER

makes ``FOLDER/NAME.svg`` from each ``FOLDER/NAME.json`` (``bench.results``) that has something to plot.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

OURS, OTHERS = "#3f7fd0", "#9aa3ad"
INK = "#7c858f"
"""Can be read on a white page and on a black one."""

SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "qmon",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
PANEL_WIDTH, BAR_HEIGHT = 2.6, 0.28


def plot(table: dict[str, Any], path: Path) -> None:
    """Bars side by side: a panel for each column that is plotted, a bar for each row."""
    rows = table["rows"][::-1]
    columns = [(place, each) for place, each in enumerate(table["columns"]) if each["plotted"]]
    if not columns:
        return
    size = (1.6 + PANEL_WIDTH * len(columns), 0.7 + BAR_HEIGHT * len(rows))
    figure, panels = plt.subplots(1, len(columns), sharey=True, figsize=size, squeeze=False)
    names = [row["name"] for row in rows]
    colours = [OURS if name.startswith("qmon") else OTHERS for name in names]
    if OURS not in colours:
        colours = [OURS] * len(rows)
    for panel, (place, column) in zip(panels[0], columns, strict=True):
        values = [row["figures"][place] or 0 for row in rows]
        labels = [
            "" if row["figures"][place] is None else column["format"].format(value)
            for row, value in zip(rows, values, strict=True)
        ]
        panel.bar_label(panel.barh(names, values, color=colours, height=0.7), labels, padding=3)
        panel.set_title(column["title"], fontsize=9)
        panel.set_xlim(0, max(values) * 1.25 or 1)
        panel.tick_params(left=False, bottom=False, labelbottom=False)
        panel.spines[["top", "right", "bottom"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> None:
    """Make all plots of a folder."""
    with mpl.rc_context(SETTINGS):
        for path in sorted(Path(sys.argv[1]).glob("*.json")):
            plot(json.loads(path.read_text()), path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
