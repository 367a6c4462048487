"""What a source proposes before any block is sent: which drives, and how they travel. Pure."""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from qmon.errors import QmonError

MAX_ID = 255
"""Characters that a drive's id may have."""

MAX_SAMPLES = 1024
"""Of one backing image."""

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
class Sample:
    """A range of a backing image, in bytes, and the checksum of what it holds, in hexadecimal."""

    offset: int
    length: int
    checksum: str


@dataclass(frozen=True, slots=True)
class BackingOffer:
    """A disk that both sides should have: its size in bytes, and samples of what it holds, in order."""

    size: int
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class DriveOffer:
    """One drive as a side knows it; ``size`` in bytes.

    ``backing`` is what an incremental copy leaves out, None where all of the drive travels; ``content`` is
    what a read-only drive holds, which travels only where the destination lacks it.
    """

    id: str
    size: int
    read_only: bool
    backing: BackingOffer | None = None
    content: BackingOffer | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A migration as the source proposes it. Records name drives by their place in ``drives``."""

    id: UUID
    mode: Mode
    drives: tuple[DriveOffer, ...]
    uuid: UUID | None = None
    """The source machine's, where the destination's is to be the same (the capability validate-uuid)."""
    empty: tuple[str, ...] = ()
    """The ids of the drives that have no medium."""

    def encode(self) -> bytes:
        """HELLO's payload: JSON."""
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
        """Read HELLO's payload. Raises OfferError; fields not known here are left alone."""
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
    return fields


def _decode_drive(item: Any) -> DriveOffer:
    name, size, read_only = item["id"], item["size"], item["read_only"]
    good_name = isinstance(name, str) and name.isprintable() and 0 < len(name) <= MAX_ID
    if not good_name or type(size) is not int or type(read_only) is not bool or size < 0:
        raise ValueError(f"not a drive: {item!r}")
    backing, content = (_decode_backing(item[key]) if key in item else None for key in ("backing", "content"))
    return DriveOffer(name, size, read_only, backing, content)


def _decode_backing(item: Any) -> BackingOffer:
    size, samples = item["size"], item["samples"]
    if type(size) is not int or size < 0 or not isinstance(samples, list) or len(samples) > MAX_SAMPLES:
        raise ValueError(f"not a disk to be compared: {item!r}")
    found: list[Sample] = []
    end = 0
    for sample in samples:
        offset, length, checksum = sample
        numbers = type(offset) is int and type(length) is int
        # In order and apart from each other, so that no offer has the same bytes read over and over.
        if not numbers or not isinstance(checksum, str) or offset < end or length <= 0:
            raise ValueError(f"not a sample of a disk: {sample!r}")
        end = offset + length
        found.append(Sample(offset, length, checksum))
    if end > size:
        raise ValueError(f"a sample that ends at {end}, in a disk of {size} bytes")
    return BackingOffer(size, tuple(found))


def check_fit(
    offer: Offer, here: Sequence[DriveOffer], uuid: UUID | None = None, empty: Collection[str] = ()
) -> None:
    """Compare an offer with the destination's drives and its machine's UUID, None for one that has none.

    ``empty`` are the ids of the destination's drives that have no medium, which are not in ``here``.
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
        if mine is None and drive.id in empty:
            raise OfferError(
                f"drive '{drive.id}' has a medium at the source and none at the destination: put one in there"
                f" with 'change {drive.id} FILE'"
            )
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
        if drive.read_only and not mine.read_only and offer.mode is Mode.SHARED:
            raise OfferError(f"drive '{drive.id}' is writable at the destination and read-only at the source")
        if offer.mode is Mode.INCREMENTAL and not drive.read_only:
            _check_backing(drive, mine)
    if known:
        name = next(iter(known))
        if name in offer.empty:
            raise OfferError(
                f"drive '{name}' has no medium at the source and one at the destination: take it out there"
                f" with 'eject {name}'"
            )
        raise OfferError(f"the source has no drive '{name}', which the destination has")


def _check_backing(there: DriveOffer, here: DriveOffer) -> None:
    match there.backing, here.backing:
        case BackingOffer(size=theirs), BackingOffer(size=ours) if ours != theirs:
            raise OfferError(
                f"the backing image of drive '{there.id}' has {theirs} bytes at the source and {ours} at the"
                " destination: for an incremental copy they must be the same"
            )
        case BackingOffer(), None:
            has, lacks = "source", "destination"
        case None, BackingOffer():
            has, lacks = "destination", "source"
        case _:
            return
    raise OfferError(
        f"drive '{there.id}' has a backing image at the {has} and none at the {lacks}: an incremental copy"
        " needs the same one on both sides"
    )
