"""Makes the man page and the completions (``docs/shipped.py``); ``setup.cfg`` says the rest."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup

sys.path[:0] = [str(Path(__file__).parent)]

from docs.shipped import make  # noqa: E402 - found only with the path above

make(Path("build/share"))
setup()
