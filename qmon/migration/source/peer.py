"""The other end of a source's line: what is known of it, and the reason when the line ends."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from qmon.errors import reason
from qmon.host.pipe_line import PipeLine
from qmon.migration.source.errors import LateAnswerError, LinkError
from qmon.migration.wire.answers import Type
from qmon.migration.wire.offer import Answers
from qmon.migration.wire.security import Line
from qmon.migration.wire.strangers import not_a_destination
from qmon.notation.strangers import FIRST_BYTES

END_SECONDS = 2.0
"""How long to wait for a command's end, which is the better reason than a broken pipe."""

COMPLETE_TIMEOUT = 600
"""Seconds within which a command must end after all was written: it may send or compress what it has."""

_A_DESTINATION = "a qmon with -incoming, of this version"


class Peer:
    """A destination, a command, a file, or a program that is no destination."""

    def __init__(self, line: Line, address: str, answers: Answers, *, is_known: bool) -> None:
        """``address`` is as written; ``is_known``: it has answered on an earlier connection."""
        self._line = line
        self._address = address
        self.answers = answers
        """What is known about its answers at the moment."""
        self._first = b""
        """The first bytes that were received, until there was a valid answer."""
        self._has_answered = is_known

    @property
    def is_one_way(self) -> bool:
        """Whether nobody answers, as far as is known."""
        return self.answers is Answers.UNHEARD

    @property
    def may_answer(self) -> bool:
        """Whether an answer may still come."""
        return not isinstance(self._line, PipeLine) or self._line.may_answer()

    @property
    def may_be_silent(self) -> bool:
        """Whether the end of what it sends says nothing about the line: it need not answer, and has not."""
        return not (self._has_answered or self._first or self.answers is Answers.HEARD)

    @property
    def is_stored(self) -> bool:
        """Whether the stream goes to a regular file, so that nobody obeys it now."""
        return isinstance(self._line, PipeLine) and self._line.is_file

    @property
    def name(self) -> str:
        is_command = isinstance(self._line, PipeLine) and self._line.child is not None
        return "the command" if is_command else "the destination"

    # What was received.

    def note_received(self, received: memoryview) -> None:
        """Bytes have arrived. The first ones tell what a program is that is no destination."""
        if not self._has_answered:
            self._first += bytes(received[: FIRST_BYTES - len(self._first)])

    def note_answer(self) -> None:
        """A valid answer has arrived."""
        self._has_answered = True

    # The reasons why it can't be used.

    def why_invalid(self) -> LinkError | None:
        """Return the error of bytes that are no answer; None if it is known to be a destination."""
        return None if self._has_answered else LinkError(not_a_destination(self._address, self._first))

    def why_ended(self, how: str) -> LinkError:
        """Return the error of a line that has ended; ``how`` says how."""
        if isinstance(self._line, PipeLine) and (why := self._line.failure(END_SECONDS)):
            return LinkError(why)
        if self._has_answered:
            return LinkError(how)
        if self._first:
            return LinkError(not_a_destination(self._address, self._first))
        return LinkError(f"{how} before an answer: is {self._address} {_A_DESTINATION}?")

    def why_unsent(self, error: OSError) -> LinkError:
        """Return the error of a send that has failed."""
        line = self._line
        if not isinstance(line, PipeLine):
            return LinkError(f"the connection to the destination was lost: {reason(error)}")
        if line.is_file:
            return LinkError(f"the file can't be written: {reason(error)}")
        if why := line.failure(END_SECONDS):
            return LinkError(why)
        if line.child is not None:
            return LinkError("the command reads no more, before all was sent")
        return LinkError(f"the pipe can't be written: {reason(error)}")

    def why_late(self, kinds: Sequence[Type], seconds: float) -> LateAnswerError:
        """Return the error of an answer that has not arrived in time."""
        if not self._has_answered:
            return LateAnswerError(
                f"{self._address} has sent nothing for {seconds:g} s: is it {_A_DESTINATION}?"
            )
        wanted = " or ".join(kind.name for kind in kinds)
        return LateAnswerError(f"the destination did not answer {wanted} within {seconds:g} s")

    def why_unheard(self) -> LinkError:
        """Return the error of an end that does not answer, and must."""
        return LinkError(f"{self._address} does not answer")

    def complete(self) -> None:
        """End a stream that nobody answers, and wait for a command's end. Raises LinkError or OSError."""
        line = self._line
        if not isinstance(line, PipeLine):
            line.shutdown(socket.SHUT_WR)
            return
        line.end_sending()
        if not line.wait_ended(COMPLETE_TIMEOUT):
            raise LinkError(f"the command has not ended within {COMPLETE_TIMEOUT} s after its input")
        if why := line.failure():
            raise LinkError(why)
