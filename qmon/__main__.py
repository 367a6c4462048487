"""``python -m qmon`` is ``qmon``."""

import sys

from qmon.cli import main

sys.exit(main())
