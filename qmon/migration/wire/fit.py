"""Compares an offer with the destination's drives, and tells all that does not match in one line. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from uuid import UUID

from qmon.migration.wire.offer import BackingOffer, DriveOffer, Mode, Offer, OfferError

MAX_TOLD_BYTES = 3500
"""An answer that refuses a migration holds 4096 bytes: reasons that do not fit are only counted."""


def in_one(mismatches: Sequence[str]) -> str:
    """Return one line that tells all mismatches, numbered; a single one stays as it is."""
    if len(mismatches) == 1:
        return mismatches[0]
    told: list[str] = []
    used = 0
    for number, each in enumerate(mismatches, 1):
        used += len(each.encode(errors="backslashreplace")) + 8
        if told and used > MAX_TOLD_BYTES:
            break
        told.append(f"({number}) {each}")
    if len(told) < len(mismatches):
        told.append(f"and {len(mismatches) - len(told)} more")
    return f"the destination does not match, for {len(mismatches)} reasons: {'; '.join(told)}"


def check_fit(
    offer: Offer, here: Sequence[DriveOffer], uuid: UUID | None = None, empty: Collection[str] = ()
) -> None:
    """Raises OfferError with everything that ``misfits`` yields, in one line."""
    found = list(misfits(offer, here, uuid, empty))
    if found:
        raise OfferError(in_one(found))


def misfits(
    offer: Offer, here: Sequence[DriveOffer], uuid: UUID | None = None, empty: Collection[str] = ()
) -> Iterator[str]:
    """Yield a sentence for each difference between an offer and the destination.

    ``here`` are the destination's drives, ``uuid`` is its machine's, None without one, and ``empty`` are the
    ids of its drives without a medium, which are not in ``here``.
    """
    if offer.uuid is not None and offer.uuid != uuid:
        yield f"UUID received is {offer.uuid} and local is {uuid or 'not set'}"
    mine = {drive.id: drive for drive in here}
    seen: set[str] = set()
    for drive in offer.drives:
        if drive.id in seen:
            yield f"the source's offer names drive '{drive.id}' twice"
            continue
        seen.add(drive.id)
        if drive.id in mine:
            yield from differences(offer.mode, drive, mine[drive.id])
        elif drive.id in empty:
            yield (
                f"drive '{drive.id}' has a medium at the source and none at the destination: insert one at"
                f" the destination with 'change {drive.id} FILE'"
            )
        else:
            have = ", ".join(f"'{other.id}'" for other in here) or "none"
            yield f"the destination has no drive '{drive.id}': it has {have}"
    for name in mine:
        if name in seen:
            continue
        if name in offer.empty:
            yield (
                f"drive '{name}' has no medium at the source and one at the destination: remove it at"
                f" the destination with 'eject {name}'"
            )
        else:
            yield f"the destination has a drive '{name}', but the source does not"


def differences(mode: Mode, there: DriveOffer, here: DriveOffer) -> Iterator[str]:
    """Yield what differs in one drive, as the source offers it and as it is here."""
    if here.size != there.size:
        yield (
            f"drive '{there.id}' has {there.size} bytes at the source and {here.size} at the destination:"
            f" they must be equal{'' if mode is Mode.SHARED else _resizing(there.size)}"
        )
    if here.read_only and not there.read_only:
        yield f"drive '{there.id}' is read-only at the destination and writable at the source"
    if there.read_only and not here.read_only and mode is Mode.SHARED:
        yield f"drive '{there.id}' is writable at the destination and read-only at the source"
    if mode is Mode.INCREMENTAL and not there.read_only:
        yield from _differing_backing(there, here)


def _resizing(size: int) -> str:
    """Return how the destination gets that size: its images are closed while it waits."""
    return f". There: end qmon, 'truncate -s {size} FILE' (qcow2: 'qemu-img resize'), start it again"


def _differing_backing(there: DriveOffer, here: DriveOffer) -> Iterator[str]:
    match there.backing, here.backing:
        case BackingOffer(size=theirs), BackingOffer(size=ours) if ours != theirs:
            yield (
                f"the backing image of drive '{there.id}' has {theirs} bytes at the source and {ours} at the"
                " destination: for an incremental copy the sizes must be equal"
            )
            return
        case BackingOffer(), None:
            has, lacks = "source", "destination"
        case None, BackingOffer():
            has, lacks = "destination", "source"
        case _:
            return
    yield (
        f"drive '{there.id}' has a backing image at the {has} and none at the {lacks}: an incremental copy"
        " needs the same one on both sides"
    )
