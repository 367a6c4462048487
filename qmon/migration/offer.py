"""What a source proposes before any block is sent: which drives, and how they travel. Pure."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from qmon.errors import QmonError

MAX_ID = 255
"""Characters that a drive's id may have."""

MAX_SHOWN = 200
"""Characters of what can't be read that are shown: a peer that nobody knows yet may have sent a MiB."""


class Mode(enum.Enum):
    """How the drives' content reaches the destination."""

    SHARED = "shared"
    """It is there already: both sides see the same storage."""
    FULL = "full"
    INCREMENTAL = "incremental"


class OfferError(QmonError):
    """An offer that can't be read, or does not fit the drives here; the message says which and why."""


@dataclass(frozen=True, slots=True)
class DriveOffer:
    """One drive as a side knows it; ``size`` in bytes."""

    id: str
    size: int
    read_only: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """A migration as the source proposes it. Records name drives by their place in ``drives``."""

    id: UUID
    mode: Mode
    drives: tuple[DriveOffer, ...]
    uuid: UUID | None = None
    """The source machine's, where the destination's is to be the same (the capability validate-uuid)."""

    def encode(self) -> bytes:
        """HELLO's payload: JSON."""
        fields: dict[str, Any] = {
            "id": self.id.hex,
            "mode": self.mode.value,
            "drives": [asdict(drive) for drive in self.drives],
        }
        if self.uuid is not None:
            fields["uuid"] = str(self.uuid)
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Offer:
        """Read HELLO's payload. Raises OfferError; fields not known here are left alone."""
        try:
            fields = json.loads(payload)
            drives = tuple(_decode_drive(item) for item in fields["drives"])
            uuid = UUID(hex=fields["uuid"]) if "uuid" in fields else None
            return cls(UUID(hex=fields["id"]), Mode(fields["mode"]), drives, uuid)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise OfferError(f"the source's offer can't be read: {str(error)[:MAX_SHOWN]}") from error


def _decode_drive(item: Any) -> DriveOffer:
    name, size, read_only = item["id"], item["size"], item["read_only"]
    good_name = isinstance(name, str) and name.isprintable() and 0 < len(name) <= MAX_ID
    if not good_name or type(size) is not int or type(read_only) is not bool or size < 0:
        raise ValueError(f"not a drive: {item!r}")
    return DriveOffer(name, size, read_only)


def check_fit(offer: Offer, here: Sequence[DriveOffer], uuid: UUID | None = None) -> None:
    """Compare an offer with the destination's drives and its machine's UUID, None for one that has none.

    Raises OfferError naming the first misfit.
    """
    if offer.uuid is not None and offer.uuid != uuid:
        raise OfferError(f"UUID received is {offer.uuid} and local is {uuid or 'not set'}")
    known = {drive.id: drive for drive in here}
    seen: set[str] = set()
    for drive in offer.drives:
        if drive.id in seen:
            raise OfferError(f"the source's offer names drive '{drive.id}' twice")
        seen.add(drive.id)
        mine = known.pop(drive.id, None)
        if mine is None:
            have = ", ".join(f"'{other.id}'" for other in here) or "none"
            raise OfferError(f"the destination has no drive '{drive.id}': it has {have}")
        if mine.size != drive.size:
            raise OfferError(
                f"drive '{drive.id}' has {drive.size} bytes at the source and {mine.size} at the destination:"
                " they must be equal"
            )
        if mine.read_only and not drive.read_only:
            raise OfferError(f"drive '{drive.id}' is read-only at the destination and writable at the source")
        if drive.read_only and not mine.read_only:
            raise OfferError(f"drive '{drive.id}' is writable at the destination and read-only at the source")
    if known:
        name = next(iter(known))
        raise OfferError(f"the source has no drive '{name}', which the destination has")
