"""Results and events against the schema: each member is there, of its type, and no other."""

from __future__ import annotations

from typing import Any

from qmon.notation.qapi import default_schema
from qmon.notation.visit import Form
from qmon.qmp.target import Event


def check_result(command: str, result: Any) -> None:
    """Raises UsageError if the result of a command is not what the schema says."""
    schema = default_schema()
    returns = schema[command].get("returns")
    if returns is None:
        assert result in (None, {}), (command, result)
    else:
        schema.kind(returns).read(result, Form.JSON, (command,))


def check_event(event: Event) -> None:
    """Raises UsageError if the data of an event are not what the schema says."""
    default_schema().arguments(event.name).read(dict(event.data), Form.JSON, (event.name,))
