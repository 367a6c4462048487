"""Serves the requests of one connection for extents (doc/proto.md, NBD_CMD_BLOCK_STATUS)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from itertools import islice

from qmon.block.hints import is_elsewhere
from qmon.block.node import Node
from qmon.nbd.constants import Error
from qmon.nbd.contexts import ALLOCATION, Context, chosen
from qmon.nbd.replies import EXTENT_SIZE, STATUS_HEAD
from qmon.nbd.rules import BLOCK_STATUS, PAYLOAD_LEN, REQ_ONE
from qmon.nbd.session import Session


def serve_status(
    session: Session,
    node: Node,
    flags: int,
    cookie: int,
    offset: int,
    length: int,
    payload: memoryview,
) -> bool:
    """Serve one request and add its reply; or do nothing and return False if the reply does not fit."""
    replies, contexts = session.replies, session.contexts
    if flags & PAYLOAD_LEN and contexts:
        effect = chosen(contexts, payload)
        if effect is None:
            text = "BLOCK_STATUS names no contexts, or not those that were selected"
            replies.add_error(cookie, BLOCK_STATUS, Error.EINVAL, offset, text=text)
            return True
        length, contexts = effect
    size = node.size
    if session.refusal(BLOCK_STATUS, flags, offset, length, size):
        session.refuse(BLOCK_STATUS, flags, cookie, offset, length, size)
        return True
    room = replies.room // len(contexts) - STATUS_HEAD
    most = min(session.most_extents, room // EXTENT_SIZE)
    only_one = bool(flags & REQ_ONE)
    try:
        _check_known(node, contexts)
        status = [
            (id, _extents(context.runs(node, offset, length), most, only_one=only_one))
            for id, context in contexts
        ]
    except (OSError, MemoryError) as failure:
        error = session.failures.tell(failure, BLOCK_STATUS, offset, length)
        replies.add_error(cookie, BLOCK_STATUS, error, offset)
        return True
    if not replies.has_room(sum(STATUS_HEAD + EXTENT_SIZE * len(extents) for _, extents in status)):
        return False
    replies.add_extents(cookie, status, offset)
    return True


def _check_known(node: Node, contexts: Sequence[tuple[int, Context]]) -> None:
    """Raises OSError if a context is of the images or bitmaps here, and the disk is elsewhere."""
    if is_elsewhere(node) and any(context is not ALLOCATION for _, context in contexts):
        raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))


def _extents(runs: Iterator[tuple[int, int]], most: int, *, only_one: bool) -> list[tuple[int, int]]:
    """Join neighbours of one status, of at most so many runs."""
    found: list[tuple[int, int]] = []
    for length, status in islice(runs, most):
        if found and found[-1][1] == status:
            found[-1] = (found[-1][0] + length, status)
        elif found and only_one:
            break
        else:
            found.append((length, status))
    return found
