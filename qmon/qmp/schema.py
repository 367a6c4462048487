"""A command's arguments, checked against its function's annotations: each annotation is one of QAPI's kinds.

What an annotation may be: ``str``, ``int``, ``Uint8`` to ``Uint64``, ``float``, ``bool``, ``Any``,
``list[T]``, ``dict[str, Any]``, ``Literal["a", "b"]``, ``StrOrNull``, a ``TypedDict``, and ``T | None`` for
what may be left out.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, is_typeddict

from qmon.errors import CommandError, UsageError
from qmon.notation.visit import (
    AnyObject,
    Anything,
    Choice,
    Form,
    Integer,
    Kind,
    ListOf,
    Number,
    Struct,
    Switch,
    Text,
    TextOrNull,
    Unsigned,
)

Uint8 = Annotated[int, Unsigned(8)]
Uint32 = Annotated[int, Unsigned(32)]
Uint64 = Annotated[int, Unsigned()]
"""A negative value passes, as with QEMU; whether it is in range is the command's to say."""

StrOrNull = Annotated[Any, TextOrNull()]

_PLAIN: dict[Any, Kind] = {
    str: Text(),
    int: Integer(),
    float: Number(),
    bool: Switch(),
    dict: AnyObject(),
    Any: Anything(),
}


def kind_of(annotation: Any) -> Kind:
    """The kind that an annotation stands for."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_typeddict(annotation):
        hints = typing.get_type_hints(annotation, include_extras=True)
        # Not __required_keys__: it does not see NotRequired in annotations that are kept as text.
        optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
        members = {
            name: kind_of(get_args(hint)[0] if name in optional else hint) for name, hint in hints.items()
        }
        return Struct(members, frozenset(members) - optional)
    if origin in (Union, types.UnionType):
        (inner,) = [member for member in arguments if member is not type(None)]
        return kind_of(inner)
    if origin is Annotated:
        kind: Kind = annotation.__metadata__[0]
        return kind
    if origin is Literal:
        return Choice(arguments)
    if origin is list:
        return ListOf(kind_of(arguments[0]))
    return _PLAIN[origin or annotation]


def _is_optional(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)


class Signature:
    """A command function's parameters under their QMP names: ``node_name`` is ``node-name``.

    A parameter whose own QMP name has underscores is listed in ``underscored``. A function that ends in
    ``**options`` takes every other argument too, unchecked, under its QMP name.
    """

    def __init__(self, function: Callable[..., Any], underscored: frozenset[str] = frozenset()) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        self._names: dict[str, str] = {}
        self._is_open = False
        kinds: dict[str, Kind] = {}
        required = set()
        for name, parameter in inspect.signature(function).parameters.items():
            if name == "self":
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                self._is_open = True
                continue
            qmp_name = name if name in underscored else name.rstrip("_").replace("_", "-")
            self._names[qmp_name] = name
            kinds[qmp_name] = kind_of(hints[name])
            if parameter.default is parameter.empty:
                required.add(qmp_name)
        self._struct = Struct(kinds, frozenset(required))

    @classmethod
    def of(cls, fields: Mapping[str, Any], *, is_open: bool = False) -> Signature:
        """The signature of a function that takes what a table names: QMP names to annotations.

        The function gets the arguments under their QMP names; ``T | None`` may be left out. With ``is_open``
        it takes every other argument too, unchecked.
        """
        signature = cls.__new__(cls)
        signature._is_open = is_open
        signature._names = {}
        required = frozenset(name for name, hint in fields.items() if not _is_optional(hint))
        signature._struct = Struct({name: kind_of(hint) for name, hint in fields.items()}, required)
        return signature

    @property
    def arguments(self) -> Struct:
        """What is checked, under QMP's names."""
        return self._struct

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check the arguments and return them as keyword arguments. Raises CommandError with QEMU's words."""
        members = self._struct.members
        known = {name: value for name, value in arguments.items() if not self._is_open or name in members}
        try:
            self._struct.read(known, Form.JSON)
        except UsageError as error:
            raise CommandError(str(error)) from error
        return {self._names.get(name, name): value for name, value in arguments.items()}
