"""A command's arguments: checked against the schema, and passed to the function that serves the command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.notation.qapi import Schema
from qmon.notation.visit import Form


def check_arguments(schema: Schema, command: str, arguments: Mapping[str, Any]) -> None:
    """Check a command's arguments. Raises CommandError with QEMU's words."""
    try:
        schema.arguments(command).read(dict(arguments), Form.JSON, ())
    except UsageError as error:
        raise CommandError(str(error)) from error


def allows_oob(schema: Schema, command: str) -> bool:
    """Whether a command may be sent out of band."""
    return command in schema and bool(schema[command].get("allow-oob"))


class Binding:
    """Passes arguments to a function: ``node-name`` is its parameter ``node_name``, ``if`` is ``if_``.

    A function that ends in ``**options`` gets all that it does not name, under the names in QMP.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        parameters = inspect.signature(function).parameters.values()
        self._objects = frozenset(each.name for each in parameters if _is_object(each.annotation))
        self._names = frozenset(each.name for each in parameters if each.kind is not each.VAR_KEYWORD)
        self._is_open = any(each.kind is each.VAR_KEYWORD for each in parameters)

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments. Raises CommandError for an argument that has no effect here.

        The schema has no type for an object of any members, so these are checked here.
        """
        bound = {}
        for name, value in arguments.items():
            keyword = self.keyword(name)
            if keyword in self._objects and not isinstance(value, dict):
                raise CommandError(f"Invalid parameter type for '{name}', expected: object")
            bound[keyword] = value
        return bound

    def keyword(self, name: str) -> str:
        """Return the name of an argument's parameter. Raises CommandError if there is none."""
        written = name.replace("-", "_")
        for candidate in (written, f"{written}_"):
            if candidate in self._names:
                return candidate
        if not self._is_open:
            raise CommandError(f"Parameter '{name}' is not supported")
        return name


def _is_object(annotation: Any) -> bool:
    return str(annotation).startswith("dict[")  # annotations are kept as text
