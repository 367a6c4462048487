"""``python -m qmon`` is ``qmon``."""

import sys

from qmon.program.cli import main

sys.exit(main())
