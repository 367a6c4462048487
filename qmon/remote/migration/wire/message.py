"""Reads the members of a JSON message strictly, since a stranger may have sent it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from qmon.errors import QmonError
from qmon.notation.plain_text import one_line

T = TypeVar("T")

TEXT_MAX = 1024
"""Characters of one text."""
NUMBER_MAX = (1 << 63) - 1
_SHOWN_MAX = 60


class MessageError(QmonError):
    """A message of the other side has another shape than it must have."""


class Members:
    """The members of one JSON object. Each method reads one; it raises MessageError in one line."""

    def __init__(self, value: object, what: str) -> None:
        """``what`` names the object in errors."""
        if not isinstance(value, dict):
            raise MessageError(f"{what} is no JSON object")
        self._members: dict[str, Any] = value
        self._what = what

    def text(self, name: str, longest: int = TEXT_MAX) -> str:
        return self._text(name, self._get(name), longest)

    def number(self, name: str, largest: int = NUMBER_MAX) -> int:
        """Read a whole number that is not negative."""
        value = self._get(name)
        if type(value) is not int or not 0 <= value <= largest:
            raise self._wrong(name, f"a whole number from 0 to {largest}")
        return value

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if type(value) is not bool:
            raise self._wrong(name, "true or false")
        return value

    def texts(self, name: str, most: int, longest: int = TEXT_MAX) -> tuple[str, ...]:
        """Read a list of texts, with at most so many."""
        return tuple(self._text(name, each, longest) for each in self._list(name, most))

    def each(self, name: str, most: int, read: Callable[[object], T]) -> tuple[T, ...]:
        """Read a list of at most so many values, each by ``read``."""
        return tuple(read(each) for each in self._list(name, most))

    def members(self, name: str, what: str) -> Members:
        """Return what reads the members of an object; ``what`` names it in errors."""
        return Members(self._get(name), what)

    def flags(self, name: str, most: int) -> dict[str, bool]:
        """Read an object whose members are all true or false."""
        value = self._object(name, most)
        if not all(type(each) is bool for each in value.values()):
            raise self._wrong(name, "an object of true and false")
        return value

    def scalars(self, name: str, most: int) -> dict[str, str | int | bool]:
        """Read an object whose members are texts, whole numbers, true or false."""
        value = self._object(name, most)
        for each in value.values():
            is_small = type(each) is bool or (type(each) is int and abs(each) <= 2 * NUMBER_MAX + 1)
            if not is_small and not (isinstance(each, str) and len(each) <= TEXT_MAX):
                raise self._wrong(name, "an object of texts, numbers, true and false")
        return value

    def _get(self, name: str) -> Any:
        if name not in self._members:
            raise MessageError(f"{self._what} has no '{name}'")
        return self._members[name]

    def _text(self, name: str, value: object, longest: int) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise self._wrong(name, f"a text of at most {longest} characters")
        return value

    def _list(self, name: str, most: int) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(name, f"a list of at most {most} members")
        return value

    def _object(self, name: str, most: int) -> dict[str, Any]:
        value = self._get(name)
        if not isinstance(value, dict) or len(value) > most or any(len(key) > TEXT_MAX for key in value):
            raise self._wrong(name, f"an object of at most {most} members")
        return value

    def _wrong(self, name: str, wanted: str) -> MessageError:
        found = one_line(repr(self._members[name]))
        shown = found if len(found) <= _SHOWN_MAX else f"{found[:_SHOWN_MAX]}..."
        return MessageError(f"'{name}' of {self._what} is {shown}: expected {wanted}")
