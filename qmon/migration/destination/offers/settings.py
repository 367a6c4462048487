"""What this side's capabilities and parameters make of an offer. Without a change here."""

from __future__ import annotations

from collections.abc import Iterator

from qmon.migration.destination import bitmaps
from qmon.migration.destination.options import Options
from qmon.migration.wire.offer import Offer, OfferError
from qmon.migration.wire.packing import why_not

NOT_AGREED = "the capability x-qmon-recover is on at one side only: if the line breaks, the migration fails"
NOT_FORWARDED = (
    "the capability x-qmon-forward is off at the destination: clients that are connected at the source are"
    " disconnected at the end"
)


def refusals(offer: Offer, options: Options) -> Iterator[str]:
    """Yield a sentence for each setting that must be another one at either side."""
    if (why := why_not(offer.packing)) is not None:
        yield f"at the destination, {why}"
    if bool(offer.channels) is not options.multifd() and (offer.channels or offer.is_copy):
        has, lacks = ("source", "destination") if offer.channels else ("destination", "source")
        yield f"the capability multifd is on at the {has} and off at the {lacks}: set it alike on both sides"
    try:
        bitmaps.begin(options.bitmaps, offer.bitmaps)
    except OfferError as error:
        yield str(error)


def losses(offer: Offer, options: Options) -> Iterator[str]:
    """Yield a sentence for each wish of the source that this side does not grant."""
    if offer.is_copy and offer.recover is not options.may_recover():
        yield NOT_AGREED
    if offer.forwards and not options.takes_requests():
        yield NOT_FORWARDED
