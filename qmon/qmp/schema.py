"""Checks a command's arguments against its function's annotations, with QMP's error messages.

What an annotation may be: ``str``, ``int``, ``Uint8`` to ``Uint64``, ``float``, ``bool``, ``Any``,
``list[T]``, ``dict[str, Any]``, ``Literal["a", "b"]``, ``StrOrNull``, a ``TypedDict``, and ``T | None`` for
what may be left out.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, is_typeddict

from qmon.errors import CommandError

_NAMES = {str: "string", float: "number", bool: "boolean", list: "array", dict: "object"}


@dataclass(frozen=True, slots=True)
class Integer:
    """A kind of integer: its name in QEMU's messages, the least and the greatest value that it takes."""

    name: str
    least: int
    greatest: int


_UINT64 = Integer("uint64", -(1 << 63), (1 << 64) - 1)

Uint8 = Annotated[int, Integer("uint8_t", 0, (1 << 8) - 1)]
Uint16 = Annotated[int, Integer("uint16_t", 0, (1 << 16) - 1)]
Uint32 = Annotated[int, Integer("uint32_t", 0, (1 << 32) - 1)]
Uint64 = Annotated[int, _UINT64]
"""A negative value passes, as with QEMU; whether it is in range is the command's to say."""


@dataclass(frozen=True, slots=True)
class Alternate:
    """A QAPI alternate: its name in QEMU's messages, and what JSON's values of it are here."""

    name: str
    types: tuple[type, ...]


StrOrNull = Annotated[Any, Alternate("StrOrNull", (str, type(None)))]

_INT64 = Integer("integer", -(1 << 63), (1 << 63) - 1)


def _wrong_type(path: str, expected: str) -> CommandError:
    return CommandError(f"Invalid parameter type for '{path}', expected: {expected}")


def check_value(value: Any, annotation: Any, path: str) -> None:
    """Check one value. Raises CommandError naming the parameter by its path (``addr.host``)."""
    origin = get_origin(annotation)
    if annotation is Any:
        return
    if origin in (Union, types.UnionType):
        (inner,) = [member for member in get_args(annotation) if member is not type(None)]
        check_value(value, inner, path)
    elif origin is Annotated and isinstance(alternate := annotation.__metadata__[0], Alternate):
        if not isinstance(value, alternate.types):
            raise _wrong_type(path, alternate.name)
    elif origin is Annotated:
        for kind in (_UINT64, *annotation.__metadata__):  # QEMU reads an integer first, then its width
            if not _is_integer(value, kind):
                raise CommandError(f"Parameter '{path}' expects {kind.name}")
    elif annotation is int:
        if not _is_integer(value, _INT64):
            raise _wrong_type(path, "integer")
    elif origin is Literal:
        if not isinstance(value, str):
            raise _wrong_type(path, "string")
        if value not in get_args(annotation):
            name = path.rpartition(".")[2]  # all that QEMU tells of an enumeration's place
            raise CommandError(f"Parameter '{name}' does not accept value '{value}'")
    elif is_typeddict(annotation):
        if not isinstance(value, Mapping):
            raise _wrong_type(path, "object")
        hints = typing.get_type_hints(annotation, include_extras=True)
        # Not __required_keys__: it does not see NotRequired in annotations that are kept as text.
        optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
        fields = {name: get_args(hint)[0] if name in optional else hint for name, hint in hints.items()}
        check_members(value, fields, frozenset(fields) - optional, f"{path}.")
    elif origin is list:
        if not isinstance(value, list):
            raise _wrong_type(path, "array")
        for number, item in enumerate(value):
            check_value(item, get_args(annotation)[0], f"{path}[{number}]")
    else:
        expected = origin or annotation
        allowed = (int, float) if expected is float else expected
        if not isinstance(value, allowed) or (isinstance(value, bool) and expected is not bool):
            raise _wrong_type(path, _NAMES[expected])


def _is_optional(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)


def _is_integer(value: Any, kind: Integer) -> bool:
    return type(value) is int and kind.least <= value <= kind.greatest


def check_members(
    given: Mapping[str, Any], fields: Mapping[str, Any], required: frozenset[str], prefix: str = ""
) -> None:
    """Check a whole object: nothing missing, nothing unexpected, each of its type. Raises CommandError."""
    for name in fields:
        if name in given:
            check_value(given[name], fields[name], prefix + name)
        elif name in required:
            raise CommandError(f"Parameter '{prefix}{name}' is missing")
    for name in given:
        if name not in fields:
            raise CommandError(f"Parameter '{prefix}{name}' is unexpected")


class Signature:
    """A command function's parameters under their QMP names: ``node_name`` is ``node-name``.

    A parameter whose own QMP name has underscores is listed in ``underscored``. A function that ends in
    ``**options`` takes every other argument too, unchecked, under its QMP name.
    """

    def __init__(self, function: Callable[..., Any], underscored: frozenset[str] = frozenset()) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        self._names: dict[str, str] = {}
        self.fields: dict[str, Any] = {}
        required = set()
        self._open = False
        for name, parameter in inspect.signature(function).parameters.items():
            if name == "self":
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                self._open = True
                continue
            qmp_name = name if name in underscored else name.rstrip("_").replace("_", "-")
            self._names[qmp_name] = name
            self.fields[qmp_name] = hints[name]
            if parameter.default is parameter.empty:
                required.add(qmp_name)
        self.required = frozenset(required)

    @classmethod
    def of(cls, fields: Mapping[str, Any], *, is_open: bool = False) -> Signature:
        """The signature of a function that takes what a table names: QMP names to annotations.

        The function gets the arguments under their QMP names; ``T | None`` may be left out. With
        ``is_open`` it takes every other argument too, unchecked.
        """
        signature = cls.__new__(cls)
        signature.fields = dict(fields)
        signature._open = is_open
        signature._names = {name: name for name in fields}
        signature.required = frozenset(name for name, hint in fields.items() if not _is_optional(hint))
        return signature

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check the arguments and return them as keyword arguments. Raises CommandError."""
        known = {name: value for name, value in arguments.items() if not self._open or name in self.fields}
        check_members(known, self.fields, self.required)
        return {self._names.get(name, name): value for name, value in arguments.items()}
