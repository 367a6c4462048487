"""What can go wrong on a source's connection."""

from __future__ import annotations

from qmon.errors import QmonError
from qmon.migration.wire.answers import Type


class LinkError(QmonError):
    """The connection can't be used any more; the message says why."""


class LateAnswerError(LinkError):
    """An answer did not arrive in time; the connection may still work."""


class PeerRefusedError(QmonError):
    """The destination has refused; the message is its reason."""


def out_of_turn(kind: Type) -> LinkError:
    """Return the error of an unexpected answer."""
    return LinkError(f"the destination sent an unexpected answer {kind.name}")
