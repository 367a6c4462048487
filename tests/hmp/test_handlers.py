"""A table's function is written once, whichever family it is in."""

from __future__ import annotations

import pytest

from qmon.hmp.commands import find_handler
from qmon.hmp.handlers import Call, handler


def test_a_function_that_is_there_already_is_not_replaced() -> None:
    quit_ = find_handler("hmp_quit")

    async def other(call: Call) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="hmp_quit"):
        handler("hmp_quit")(other)
    assert find_handler("hmp_quit") is quit_
