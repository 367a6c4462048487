"""The first line of a migration, until both sides have agreed: what is offered, and what is copied of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from qmon.migration.progress import Progress
from qmon.migration.source import agreement, one_way
from qmon.migration.source.context import Context
from qmon.migration.source.link import Link
from qmon.migration.source.opening import open_link
from qmon.migration.source.orders import Orders
from qmon.migration.source.plan import plan
from qmon.migration.source.recovery import Recovery
from qmon.migration.source.work_queue import WorkQueue
from qmon.migration.wire.chains import Chains
from qmon.migration.wire.offer import Mode, Offer

log = logging.getLogger("qmon.migration")

NOT_AGREED = (
    "the capability x-qmon-recover is off at the destination: if the line breaks, the migration fails;"
    " turn it on there, too, before the migration"
)


class Setup:
    """For the migration's thread. Its calls raise the error that ends the migration."""

    def __init__(self, context: Context, orders: Orders, recovery: Recovery) -> None:
        self._context = context
        self._orders = orders
        self._recovery = recovery

    def run(self) -> Link:
        """Plan, connect and agree; from then on guests' writes are marked."""
        context, sender, disks = self._context, self._context.sender, self._context.disks
        options, check = context.options, context.steps.check
        offers, disks.copies, _ = plan(
            disks.drives, options.mode, context.parameters.verify_backing, context.id, check
        )
        sender.begin(notes=options.wants_recovery)
        link = sender.connect(self._orders.route, check)
        offer = self._recovery.offer = options.offer(context.id, offers, link.answers)
        sender.writer.chains = Chains([drive.size for drive in offer.drives])
        agreed = self._agree(link, offer)
        self._recovery.is_agreed = options.wants_recovery and agreed.get("recover") is True
        if options.wants_recovery and not self._recovery.is_agreed and not link.is_one_way:
            log.warning("migration: %s", NOT_AGREED)
        disks.track()
        sender.begin_survey()
        disks.survey(sender.show_life)
        sender.end_survey()
        context.progress.total, context.progress.remaining = disks.total, disks.dirty_bytes
        context.progress.agreed = time.monotonic()
        return link

    def _agree(self, link: Link, offer: Offer) -> Mapping[str, Any]:
        """Return what the destination agrees to of what the offer has named."""
        context = self._context
        seconds = context.patience.agree
        agreement.greet(context.sender, offer, agreement.ANSWERS)
        if context.options.return_path:
            link.need_answers(seconds)
        if agreement.is_heard(link, offer, context.sender, context.patience.answer):
            return agreement.hear(link, offer, context.disks, seconds)
        if offer.mode is Mode.FULL:  # nobody can ask for a read-only drive
            context.disks.copies += one_way.read_only_copies(offer, context.disks.drives)
        for line in one_way.lacks(offer, context.parameters):
            log.warning("migration: %s", line)
        return {}

    def open_channels(self) -> None:
        """Open the channels that the offer has named."""
        context, sender = self._context, self._context.sender
        if (channels := context.options.channels) is not None:
            sender.use(
                channels.open(
                    context.id.bytes, sender.writer.chains, self._connect_channel, sender.wait_in_channel
                )
            )

    def _connect_channel(self) -> Link:
        check = self._context.steps.check
        return open_link(self._orders.route, Progress(), WorkQueue(), check, is_known=True)
