"""The way to a destination, and the opening of a connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qmon.migration.progress import Progress
from qmon.migration.source.errors import LinkError
from qmon.migration.source.link import Link
from qmon.migration.source.work_queue import WorkQueue
from qmon.migration.wire.lines import OpenError, open_line
from qmon.migration.wire.security import Demand
from qmon.migration.wire.transport import Transport

CONNECT_TIMEOUT = 10
"""Seconds for a connection to be made."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way to the destination: its address, and what TLS a connection has."""

    transport: Transport
    demand: Demand
    has_tls: bool = False


def open_link(
    route: Route, progress: Progress, work: WorkQueue, check: Callable[[], None], *, is_known: bool = False
) -> Link:
    """Connect to a destination; ``check`` is called while that takes time. The rest is as for ``Link``.

    Raises LinkError, or what ``check`` or the route's ``demand`` raises.
    """
    try:
        line, answers = open_line(route.transport, CONNECT_TIMEOUT, check, route.demand)
    except OpenError as error:
        raise LinkError(str(error)) from error
    return Link(line, progress, route.transport.uri, work, is_known=is_known, answers=answers)
