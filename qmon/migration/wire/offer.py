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
from qmon.migration.wire.bitmaps import MAX_BITMAPS, BitmapOffer
from qmon.notation.plain_text import one_line, plain

MAX_ID = 255
"""The most characters of a drive's id."""

MAX_CHANNELS = 255
METHODS = ("none", "zlib", "zstd")
"""How data may be compressed on the channels of multifd."""

MAX_SAMPLES = 1024
"""Samples of one backing image."""

MAX_IMAGE = 4096
"""The most characters of an image's file name."""

MAX_WHY = 1000
"""The most characters of the reason for which a source has ended a migration."""

MAX_SHOWN = 200
"""Characters of an unreadable offer that an error shows: an unknown peer may have sent a MiB."""


class Mode(enum.Enum):
    """How the contents of the drives get to the destination."""

    SHARED = "shared"
    """Nothing is copied: both sides use the same storage."""
    FULL = "full"
    INCREMENTAL = "incremental"


class Answers(enum.Enum):
    """Whether the source hears what the destination answers."""

    HEARD = "heard"
    ASKED = "asked"
    """The source does not know: the destination answers BUSY at once, and then comes an ANSWERS record."""
    UNHEARD = "unheard"
    """Nobody reads answers: the stream may be stored."""


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
    ``amount`` is None if nothing is copied, or if the source has not estimated it. ``image`` is the file name
    of a read-only drive, for a person who must bring it.
    """

    id: str
    size: int
    read_only: bool
    backing: BackingOffer | None = None
    content: BackingOffer | None = None
    amount: Amount | None = None
    image: str = ""


@dataclass(frozen=True, slots=True)
class Resume:
    """How a paused migration is to go on. A line is one connection with its sequence numbers, from 0 on.

    ``line`` is the new one's number. ``last`` is the line on which records were sent last: the destination
    answers which of them it has. None: the source was restarted and does not know, so checksums are compared.
    """

    line: int
    last: int | None
    ended: str = ""
    """Why the source has ended the migration, so that the destination gives up what it has; else empty."""


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
    forwards: bool = False
    """Whether the source wants to forward requests of its clients afterwards."""
    recover: bool = False
    """Whether a broken line is to leave both sides with what they have (the capability x-qmon-recover)."""
    resume: Resume | None = None
    """Set if a paused migration is to go on."""
    answers: Answers = Answers.HEARD
    channels: int = 0
    """How many further connections the source makes for data (the capability multifd)."""
    packing: str = "none"
    """How data is compressed on them (``wire/packing.py``)."""
    bitmaps: tuple[BitmapOffer, ...] = ()
    """The dirty bitmaps that go along (the capability dirty-bitmaps)."""

    @property
    def is_copy(self) -> bool:
        """Whether disks are copied."""
        return self.mode is not Mode.SHARED

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
        if self.forwards:
            fields["forward"] = True
        if self.recover:
            fields["recover"] = True
        if self.resume is not None:
            fields["resume"] = {
                "line": self.resume.line,
                "last": self.resume.last,
                "ended": self.resume.ended[:MAX_WHY],
            }
        if self.answers is not Answers.HEARD:
            fields["answers"] = self.answers.value
        if self.channels:
            fields["channels"], fields["packing"] = self.channels, self.packing
        if self.bitmaps:
            fields["bitmaps"] = [each.fields() for each in self.bitmaps]
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Offer:
        """Read the payload of HELLO; unknown fields are ignored. Raises OfferError."""
        try:
            fields = json.loads(payload)
            drives = tuple(_decode_drive(item) for item in fields["drives"])
            uuid = UUID(hex=fields["uuid"]) if "uuid" in fields else None
            empty = tuple(name for name in fields.get("empty", ()) if isinstance(name, str))
            forwards = fields.get("forward") is True
            recover = fields.get("recover") is True
            resume = _decode_resume(fields["resume"]) if "resume" in fields else None
            answers = Answers(fields.get("answers", Answers.HEARD.value))
            return cls(
                UUID(hex=fields["id"]),
                Mode(fields["mode"]),
                drives,
                uuid,
                empty,
                forwards,
                recover,
                resume,
                answers,
                *_decode_channels(fields),
                _decode_bitmaps(fields.get("bitmaps", [])),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise OfferError(f"the source's offer can't be read: {str(error)[:MAX_SHOWN]}") from error


def _decode_resume(item: Any) -> Resume:
    line, last, ended = item["line"], item["last"], item["ended"]
    is_good = type(line) is int and (last is None or type(last) is int) and isinstance(ended, str)
    if not is_good or len(ended) > MAX_WHY:
        raise ValueError(f"invalid description of a line: {item!r}")
    return Resume(line, last, one_line(plain(ended)))


def _decode_channels(fields: dict[str, Any]) -> tuple[int, str]:
    channels, packing = fields.get("channels", 0), fields.get("packing", METHODS[0])
    if type(channels) is not int or not 0 <= channels <= MAX_CHANNELS or packing not in METHODS:
        raise ValueError(f"invalid channels: {channels!r}, {packing!r}")
    return channels, packing


def _decode_bitmaps(items: Any) -> tuple[BitmapOffer, ...]:
    if not isinstance(items, list) or len(items) > MAX_BITMAPS:
        raise ValueError("invalid description of bitmaps")
    return tuple(BitmapOffer.read(item) for item in items)


def _encode_drive(drive: DriveOffer) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": drive.id, "size": drive.size, "read_only": drive.read_only}
    for name, disk in (("backing", drive.backing), ("content", drive.content)):
        if disk is not None:
            samples = [(each.offset, each.length, each.checksum) for each in disk.samples]
            fields[name] = {"size": disk.size, "samples": samples}
    if drive.amount is not None:
        fields["amount"] = (drive.amount.least, drive.amount.most)
    if drive.image:
        fields["image"] = drive.image[:MAX_IMAGE]
    return fields


def _decode_drive(item: Any) -> DriveOffer:
    name, size, read_only = item["id"], item["size"], item["read_only"]
    good_name = isinstance(name, str) and name.isprintable() and 0 < len(name) <= MAX_ID
    if not good_name or type(size) is not int or type(read_only) is not bool or size < 0:
        raise ValueError(f"invalid description of a drive: {item!r}")
    backing, content = (_decode_backing(item[key]) if key in item else None for key in ("backing", "content"))
    amount = _decode_amount(item["amount"], size) if "amount" in item else None
    image = item.get("image", "")
    if not isinstance(image, str) or len(image) > MAX_IMAGE:
        raise ValueError("invalid name of an image")
    return DriveOffer(name, size, read_only, backing, content, amount, one_line(image))


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
