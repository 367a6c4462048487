"""A command has one function, whoever adds it."""

from __future__ import annotations

from typing import Any

import pytest

from qmon.qmp.registry import Registry, command


class _Family:
    @command("query-thing")
    async def query(self) -> dict[str, Any]:
        return {}


def test_a_command_of_two_families_is_noticed() -> None:
    registry = Registry()
    registry.add_from(_Family())
    with pytest.raises(ValueError, match="query-thing"):
        registry.add_from(_Family())
