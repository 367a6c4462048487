"""What an operator has set for incoming migrations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qmon.migration.destination.bitmaps import BitmapKeeper
from qmon.migration.patience import Patience
from qmon.migration.wire.security import Demand


@dataclass(frozen=True, slots=True)
class Options:
    """The calls are made on data threads, at the moment that matters."""

    patience: Patience
    demand: Demand
    """What TLS a source must use."""
    multifd: Callable[[], bool]
    """Whether a source must use channels."""
    may_recover: Callable[[], bool]
    """Whether a broken line is to pause a migration, if the source wants it, too."""
    takes_requests: Callable[[], bool]
    """Whether a source may forward requests of its clients afterwards."""
    bitmaps: BitmapKeeper
    """Keeps the dirty bitmaps that come along."""
