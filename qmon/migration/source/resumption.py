"""A further line of a migration, until both sides have agreed on what the destination lacks."""

from __future__ import annotations

import logging
from dataclasses import replace

from qmon.errors import QmonError, reason
from qmon.migration.phases import Stand
from qmon.migration.progress import Progress
from qmon.migration.source.agreement import greet
from qmon.migration.source.comparison import Comparison
from qmon.migration.source.context import Context
from qmon.migration.source.disks import track_clean
from qmon.migration.source.errors import out_of_turn
from qmon.migration.source.link import STALL_TIMEOUT, Link
from qmon.migration.source.opening import Route, open_link
from qmon.migration.source.orders import Orders
from qmon.migration.source.plan import plan
from qmon.migration.source.records import Records
from qmon.migration.source.recovery import Recovery
from qmon.migration.source.work_queue import WorkQueue
from qmon.migration.wire.answers import Type
from qmon.migration.wire.chains import Chains
from qmon.migration.wire.offer import Answers, Offer, Resume
from qmon.migration.wire.stream import PREAMBLE, section_footer, section_start
from qmon.migration.wire.writer import RecordWriter

log = logging.getLogger("qmon.migration")

ANSWERS = (Type.BUSY, Type.NEEDED, Type.SUMS, Type.AGREED)

AGREE_SECONDS = 60
"""A destination must show within this time that it is at work."""

END_SECONDS = 5
"""How long to wait until the destination has given its images up."""


class Resumption:
    """For the migration's thread. Its calls raise the error that ends the work on this line."""

    def __init__(self, context: Context, orders: Orders, recovery: Recovery, records: Records) -> None:
        self._context = context
        self._orders = orders
        self._recovery = recovery
        self._records = records

    def run(self) -> Link:
        """Connect and agree; mark what the destination lacks."""
        context, sender, recovery = self._context, self._context.sender, self._recovery
        offer = recovery.offer or self._look_again()
        recovery.line += 1
        self._records.write(Stand.COPYING)  # each line has a number of its own, after a restart, too
        last = recovery.agreed_line if recovery.knows else None
        sender.begin(notes=True)
        link = sender.connect(self._orders.route, context.steps.check)
        resume = Resume(recovery.line, last)
        greet(sender, replace(offer, resume=resume, answers=Answers.HEARD), ANSWERS)
        link.need_answers(STALL_TIMEOUT)
        if not self._hear(link, offer):
            sender.writer.chains = Chains([drive.size for drive in offer.drives])
        context.progress.total = context.disks.total
        context.progress.error, context.progress.overdue = None, 0
        recovery.agreed_line = recovery.line
        return link

    def _look_again(self) -> Offer:
        """After a restart: describe the drives, and mark their writes from now on."""
        context, disks, options = self._context, self._context.disks, self._context.options
        self._records.check()
        offers, copies, _ = plan(
            disks.drives,
            options.mode,
            context.parameters.verify_backing,
            context.id,
            context.steps.check,
        )
        try:
            for copy in copies:
                track_clean(copy)
        except QmonError:
            for copy in copies:
                copy.uninstall()
            raise
        disks.copies = copies
        offer = Offer(context.id, options.mode, offers, options.uuid, options.empty, recover=True)
        self._recovery.offer = offer
        return offer

    def _hear(self, link: Link, offer: Offer) -> bool:
        """Wait until the destination agrees to go on; mark what it lacks.

        It says which record it has applied last, or it tells checksums of its disks, which are compared here.
        Returns whether the regions' checksums of the earlier lines go on.
        """
        recovery, disks, check = self._recovery, self._context.disks, self._context.steps.check
        comparisons: dict[int, Comparison] = {}
        told = -1
        while (answer := link.wait_for(*ANSWERS, timeout=AGREE_SECONDS)).type is not Type.AGREED:
            check()
            if answer.type is Type.NEEDED and all(copy.index != answer.needed for copy in disks.copies):
                track_clean(disks.needed(offer, answer.needed))
            elif answer.type is Type.SUMS:
                index, first, sums = answer.sums
                copy = next((each for each in disks.copies if each.index == index), None)
                if copy is None or index < told:
                    raise out_of_turn(Type.SUMS)
                told = index
                comparisons.setdefault(index, Comparison(copy)).take(first, sums)
        applied = answer.agreed.get("applied")
        if type(applied) is int and recovery.knows:
            recovery.mark_lost(disks.copies, self._context.sender.writer.chains, applied)
            return True
        if answer.agreed.get("compared") is not True:
            raise out_of_turn(Type.AGREED)
        for copy in disks.copies:
            comparisons.setdefault(copy.index, Comparison(copy)).finish()
            check()
        recovery.note_compared()
        return False

    def tell_end(self, why: str) -> None:
        """Tell a destination that keeps what it has that the migration has ended, and why.

        It may be out of reach; that is logged.
        """
        context, recovery = self._context, self._recovery
        recovery.line += 1
        offer = Offer(context.id, context.options.mode, (), resume=Resume(recovery.line, None, why))
        try:
            _tell(self._orders.route, offer)
        except (OSError, QmonError, MemoryError) as error:
            log.info("the destination was not told that the migration has ended: %s", reason(error))


def _tell(route: Route, offer: Offer) -> None:
    """Send an offer that needs only a yes. Raises OSError or QmonError."""
    writer = RecordWriter()
    writer.raw(PREAMBLE + section_start())
    writer.hello(offer.encode())
    writer.end()
    writer.raw(section_footer())
    link = open_link(route, Progress(), WorkQueue(), lambda: None)
    try:
        link.expect(Type.AGREED)
        link.send(writer)
        link.wait_for(Type.AGREED, timeout=END_SECONDS)
    finally:
        link.close()
