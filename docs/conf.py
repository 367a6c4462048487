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

extensions = ["tables", "sphinx_copybutton"]
root_doc = "index"
exclude_patterns = ["_build", "man.rst"]
nitpicky = True
highlight_language = "none"

html_theme = "furo"
html_title = f"qmon {VERSION}"
html_static_path = ["_static"]
html_css_files = ["qmon.css"]
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False

# from a session only the typed commands are copied, without the prompt
copybutton_prompt_text = r"\$ |# |\(qemu\) "
copybutton_prompt_is_regexp = True
