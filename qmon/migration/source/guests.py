"""What a migration does with its guests' writes, so that it converges."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from qmon.block.mirror import Mirror, MirrorFilter
from qmon.migration.drive import GATE_REASON
from qmon.migration.parameters import CopyMode, Parameters
from qmon.migration.progress import Progress
from qmon.migration.source.auto_converge import AutoConverge
from qmon.migration.source.changes import ChangeSender
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.link import Link
from qmon.migration.source.sender import Sender
from qmon.migration.timeline import Mark

log = logging.getLogger("qmon.migration")

DRAIN_SECONDS = 1.0
"""How long a gate may be closed for another copy mode."""

ONLY_MARKED = (
    "guests' writes are only marked with multifd, and where nobody answers: x-qmon-copy-mode write-blocking"
    " has no effect"
)

AGAIN_SECONDS = 5.0
"""After which it is tried again, if a request did not finish in that time."""


class Guests:
    """``look`` and ``begin`` are for the migration's thread, the rest for any.

    ``is_held_back``: the capability auto-converge is on.
    """

    def __init__(
        self,
        parameters: Parameters,
        progress: Progress,
        copies: Callable[[], Sequence[DriveCopy]],
        sender: Sender,
        *,
        is_held_back: bool,
    ) -> None:
        self._parameters = parameters
        self._progress = progress
        self._copies = copies
        self._auto_converge = AutoConverge(parameters, progress, copies) if is_held_back else None
        self._sender = sender
        self._changes = ChangeSender(sender)
        self._tried = 0.0
        self._is_told = False
        """Whether it was said that the copy mode has no effect."""

    def begin(self, link: Link) -> None:
        """Use this connection from now on."""
        self._changes.open(link)
        self._is_told = self._parameters.copy_mode is CopyMode.WRITE_BLOCKING
        if self._auto_converge is not None:
            self._auto_converge.begin()

    def look(self) -> bool:
        """Judge the copy while guests write; return whether more can be done for it without a person."""
        self._follow_mode()
        if self._auto_converge is None:
            return False
        self._auto_converge.look()
        return self._auto_converge.can_do_more

    def _follow_mode(self) -> None:
        """Send changes before they are acknowledged, or only mark them, as the parameter says now."""
        is_wanted = self._parameters.copy_mode is CopyMode.WRITE_BLOCKING
        is_blocking = is_wanted and self._sender.is_confirmed
        if is_wanted and not is_blocking and not self._is_told:
            self._is_told = True
            log.warning("migration: %s", ONLY_MARKED)
        others = [copy for copy in self._copies() if copy.has_filter(MirrorFilter) is not is_blocking]
        if others and time.monotonic() - self._tried > AGAIN_SECONDS:
            self._tried = time.monotonic()
            if all(self._change_mode(copy) for copy in others):
                self._tried = 0.0
                self._progress.timeline.mark(Mark.SETTING, f"copy mode {self._parameters.copy_mode.value}")

    def _change_mode(self, copy: DriveCopy) -> bool:
        gate = copy.drive.gate
        if not gate.close(GATE_REASON, DRAIN_SECONDS):
            log.warning("migration: drive '%s': a request did not finish, copy mode unchanged", copy.drive.id)
            return False
        try:
            if copy.has_filter(MirrorFilter):
                copy.mark_only()
            else:
                mirror = Mirror(copy.dirty, gate, partial(self._changes.send, copy))
                copy.exchange(lambda node: MirrorFilter(node, mirror))
        finally:
            gate.open(GATE_REASON)
        return True

    def stop(self) -> None:
        """Let guests write as before, until ``begin``; writes that wait continue."""
        self._changes.close()
        if self._auto_converge is not None:
            self._auto_converge.stop()
