"""Sphinx's settings for the manual: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

from qmon.version import VERSION

sys.path[:0] = [str(Path(__file__).parent)]

project = "qmon"
author = "The qmon developers"
project_copyright = "The qmon developers"
version = release = VERSION

extensions = ["tables"]
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True
highlight_language = "none"

html_theme = "alabaster"
html_theme_options = {"description": "The QEMU human monitor as a program of its own"}
html_show_copyright = False
html_show_sourcelink = False

man_pages: list[tuple[str, str, str, list[str], int]] = [
    ("man", "qmon", "the QEMU human monitor as a program of its own", [], 1)
]
