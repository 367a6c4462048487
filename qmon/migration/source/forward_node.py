"""A disk that is at the destination: each request is sent there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qmon.block.inactive import not_open
from qmon.block.node import Buffer, Extent
from qmon.block.transfers import Transfer
from qmon.migration.source.exchange import Exchange
from qmon.migration.source.forward_request import Request
from qmon.migration.wire.forward import MAX_LENGTH, Flag, ForwardError, Operation, read_extents


class ForwardNode:
    """Drive ``number`` of an exchange, with the size that its clients know."""

    read_now = None
    write_now = None
    backing = None
    is_elsewhere = True

    def __init__(self, exchange: Exchange, number: int, size: int, *, read_only: bool) -> None:
        self._exchange = exchange
        self._number = number
        self.size = size
        self.read_only = read_only

    def start(self, transfers: Sequence[Transfer]) -> bool:
        """Begin transfers; return False if too much is on its way. None is lost and done again."""
        if any(each.length > MAX_LENGTH for each in transfers):
            return False
        carrier = self._exchange.carrier
        for each in transfers:
            each.carrier = carrier
        return self._exchange.begin(self._number, transfers)

    def _do(self, *requests: Request) -> None:
        self._exchange.ask(self._number, requests)
        for request in requests:
            if request.error is not None:
                raise request.error

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._do(*_pieces(Operation.READ, offset, buffer))

    def write(self, offset: int, data: Buffer) -> None:
        self._do(*_pieces(Operation.WRITE, offset, memoryview(data)))

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._do(Request(Operation.ZERO, offset, length, Flag.UNMAP if unmap else 0))

    def zeroes_fast(self, offset: int, length: int, *, unmap: bool) -> bool:
        """Return False: the destination would have to be asked, and then it may have changed."""
        return False

    def discard(self, offset: int, length: int) -> None:
        self._do(Request(Operation.DISCARD, offset, length))

    def prefetch(self, offset: int, length: int) -> None:
        """Let the destination read ahead."""
        self._do(Request(Operation.PREFETCH, offset, length))

    def flush(self) -> None:
        self._do(Request(Operation.FLUSH))

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        while length:
            request = Request(Operation.EXTENTS, offset, length)
            self._do(request)
            try:
                found = read_extents(request.answer, offset, length)
            except ForwardError as error:
                raise OSError(str(error)) from error
            yield from found
            length -= found[-1].end - offset
            offset = found[-1].end

    def resize(self, size: int) -> None:
        raise not_open()

    def close(self) -> None:
        """End the waiting for the destination: requests on their way fail with EIO."""
        self._exchange.give_up(self._number)


def _pieces(operation: Operation, offset: int, data: memoryview) -> list[Request]:
    return [
        Request(operation, offset + start, len(part), data=part)
        for start in range(0, len(data), MAX_LENGTH)
        if (part := data[start : start + MAX_LENGTH])
    ]
