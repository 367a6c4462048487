"""What a process does about its addresses without TLS: ``-require-tls``, and where warnings are shown."""

from __future__ import annotations

import logging
import sys

from qmon.host.exposure import Exposure
from qmon.program.options import Options

_logger = logging.getLogger(__name__)


def make_exposure(options: Options) -> Exposure:
    """Return an Exposure whose warnings are in the log, and in every case on standard error."""
    exposure = Exposure(requires_tls=options.require_tls, tell=_logger.warning)
    if options.logfile is not None:
        exposure.tells.append(_print)
    return exposure


def _print(text: str) -> None:
    print(f"qmon: {text}", file=sys.stderr, flush=True)
