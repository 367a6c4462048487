"""The source's offer, sent before any block: which drives are migrated, and how. Pure.

``fit`` compares it with the destination's drives.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from qmon.errors import QmonError

MAX_ID = 255
"""The most characters of a drive's id."""

MAX_SAMPLES = 1024
"""Samples of one backing image."""

MAX_SHOWN = 200
"""Characters of an unreadable offer that an error shows: an unknown peer may have sent a MiB."""


class Mode(enum.Enum):
    """How the contents of the drives get to the destination."""

    SHARED = "shared"
    """Nothing is copied: both sides use the same storage."""
    FULL = "full"
    INCREMENTAL = "incremental"


class OfferError(QmonError):
    """An offer can't be read, or does not fit the destination's drives; the message names the drive."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A range of an image, in bytes, and its checksum in hexadecimal."""

    offset: int
    length: int
    checksum: str


@dataclass(frozen=True, slots=True)
class BackingOffer:
    """A disk that both sides must have: its size in bytes, and samples of its contents, ordered by offset."""

    size: int
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Amount:
    """How many bytes of a drive are data that a copy writes: a lower and an upper bound."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class DriveOffer:
    """One drive as a side knows it; ``size`` in bytes.

    ``backing`` describes the backing image in an incremental copy, which is not copied; it is None in a full
    copy. ``content`` describes a read-only drive, which is copied only if it is empty at the destination.
    ``amount`` is None if nothing is copied, or if the source has not estimated it.
    """

    id: str
    size: int
    read_only: bool
    backing: BackingOffer | None = None
    content: BackingOffer | None = None
    amount: Amount | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A migration that the source proposes. Records refer to a drive by its index in ``drives``."""

    id: UUID
    mode: Mode
    drives: tuple[DriveOffer, ...]
    uuid: UUID | None = None
    """The source machine's UUID, if the destination must have the same (the capability validate-uuid)."""
    empty: tuple[str, ...] = ()
    """The ids of the drives that have no medium."""

    def encode(self) -> bytes:
        """Return the payload of HELLO: JSON."""
        fields: dict[str, Any] = {
            "id": self.id.hex,
            "mode": self.mode.value,
            "drives": [_encode_drive(drive) for drive in self.drives],
        }
        if self.uuid is not None:
            fields["uuid"] = str(self.uuid)
        if self.empty:
            fields["empty"] = self.empty
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Offer:
        """Read the payload of HELLO; unknown fields are ignored. Raises OfferError."""
        try:
            fields = json.loads(payload)
            drives = tuple(_decode_drive(item) for item in fields["drives"])
            uuid = UUID(hex=fields["uuid"]) if "uuid" in fields else None
            empty = tuple(name for name in fields.get("empty", ()) if isinstance(name, str))
            return cls(UUID(hex=fields["id"]), Mode(fields["mode"]), drives, uuid, empty)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise OfferError(f"the source's offer can't be read: {str(error)[:MAX_SHOWN]}") from error


def _encode_drive(drive: DriveOffer) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": drive.id, "size": drive.size, "read_only": drive.read_only}
    for name, disk in (("backing", drive.backing), ("content", drive.content)):
        if disk is not None:
            samples = [(each.offset, each.length, each.checksum) for each in disk.samples]
            fields[name] = {"size": disk.size, "samples": samples}
    if drive.amount is not None:
        fields["amount"] = (drive.amount.least, drive.amount.most)
    return fields


def _decode_drive(item: Any) -> DriveOffer:
    name, size, read_only = item["id"], item["size"], item["read_only"]
    good_name = isinstance(name, str) and name.isprintable() and 0 < len(name) <= MAX_ID
    if not good_name or type(size) is not int or type(read_only) is not bool or size < 0:
        raise ValueError(f"invalid description of a drive: {item!r}")
    backing, content = (_decode_backing(item[key]) if key in item else None for key in ("backing", "content"))
    amount = _decode_amount(item["amount"], size) if "amount" in item else None
    return DriveOffer(name, size, read_only, backing, content, amount)


def _decode_amount(item: Any, size: int) -> Amount:
    least, most = item
    if type(least) is not int or type(most) is not int or not 0 <= least <= most <= size:
        raise ValueError(f"invalid amount of data: {item!r}")
    return Amount(least, most)


def _decode_backing(item: Any) -> BackingOffer:
    size, samples = item["size"], item["samples"]
    if type(size) is not int or size < 0 or not isinstance(samples, list) or len(samples) > MAX_SAMPLES:
        raise ValueError(f"invalid description of a disk: {item!r}")
    found: list[Sample] = []
    end = 0
    for sample in samples:
        offset, length, checksum = sample
        numbers = type(offset) is int and type(length) is int
        # Samples must not overlap: else an offer could make this side read the same bytes many times.
        if not numbers or not isinstance(checksum, str) or offset < end or length <= 0:
            raise ValueError(f"invalid sample of a disk: {sample!r}")
        end = offset + length
        found.append(Sample(offset, length, checksum))
    if end > size:
        raise ValueError(f"a sample ends at {end}, but the disk has {size} bytes")
    return BackingOffer(size, tuple(found))
