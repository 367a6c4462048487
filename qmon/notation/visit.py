"""Checks and converts values by their kind, from an option string or from JSON, with QEMU's errors.

A kind is what QAPI calls a type. The forms differ in their scalars (in an option string each is a string) and
in how an error names a value (QEMU: qapi/qobject-input-visitor.c). QMP's arguments are checked here too:
``qmon.notation.qapi`` makes kinds from the schema.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from qmon.errors import UsageError
from qmon.notation.keyval import parse_size_option, parse_switch
from qmon.notation.units import INT64_MAX, UINT64_MAX, read_integer


class Form(enum.Enum):
    """Where a value comes from, and so how it is written."""

    KEYVAL = "keyval"
    """Every scalar is a string: ``limits.iops-total=5``."""
    OPTION = "option"
    """As KEYVAL, but on the command line, where QEMU has other error messages."""
    STRING = "string"
    """A single scalar, as a monitor command takes it: ``migrate_set_parameter x-checkpoint-delay 5``."""
    JSON = "json"


Path = tuple[str | int, ...]
"""The place of a value: names of members and indices of lists."""


def show_path(path: Path, form: Form) -> str:
    """Return a path as an error shows it: ``rules.0.match`` or ``rules[0].match``."""
    text = ""
    for part in path:
        if isinstance(part, int) and form is Form.JSON:
            text += f"[{part}]"
        else:
            text += f".{part}" if text else str(part)
    return text


def _bare_name(path: Path) -> str:
    """Return the name in those of QEMU's errors that don't show the path; a list's member is "null" there."""
    return path[-1] if path and isinstance(path[-1], str) else "null"


class Kind(Protocol):
    """A type: it checks and converts a value."""

    def read(self, value: Any, form: Form, path: Path) -> Any:
        """Return the value as JSON would hold it. Raises UsageError with QEMU's message."""


def _one_of(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _wrong_type(path: Path, form: Form, expected: str) -> UsageError:
    return UsageError(f"Invalid parameter type for '{show_path(path, form)}', expected: {expected}")


_EXPECTED = {
    Form.KEYVAL: {"int": "integer", "uint": "integer"},
    Form.OPTION: {"int": "an int64 value", "uint": "a uint64 value"},
    Form.STRING: {"int": "int64", "uint": "uint64"},
    Form.JSON: {},
}
"""The names of kinds in error messages, if they differ from the kind's own name."""


def _expects(path: Path, form: Form, expected: str) -> UsageError:
    expected = _EXPECTED[form].get(expected, expected)
    return UsageError(f"Parameter '{show_path(path, form)}' expects {expected}")


def _scalar(value: Any, form: Form, path: Path) -> str:
    """Return a scalar of an option string. Raises UsageError if dotted keys made it a dictionary or list."""
    if not isinstance(value, str):
        raise UsageError(f"Parameters '{show_path(path, form)}.*' are unexpected")
    return value


def _parse(value: Any, form: Form, path: Path, expected: str) -> int:
    """Return a number of an option string. Raises UsageError."""
    text = _scalar(value, form, path)
    try:
        number, end = read_integer(text)
    except ValueError as error:
        raise _expects(path, form, expected) from error
    if end != len(text):
        raise _expects(path, form, expected)
    return number


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if form is not Form.JSON:
            return _scalar(value, form, path)
        if not isinstance(value, str):
            raise _wrong_type(path, form, "string")
        return value


@dataclass(frozen=True, slots=True)
class Switch:
    """A boolean, ``on`` or ``off`` in an option string."""

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if form is not Form.JSON:
            return parse_switch(show_path(path, form), _scalar(value, form, path))
        if not isinstance(value, bool):
            raise _wrong_type(path, form, "boolean")
        return value


@dataclass(frozen=True, slots=True)
class Integer:
    """A signed integer of ``bits`` bits."""

    bits: int = 64

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if form is not Form.JSON:
            value = _parse(value, form, path, "int")
            if not -INT64_MAX - 1 <= value <= INT64_MAX:
                raise _expects(path, form, "int")
        elif type(value) is not int or not -INT64_MAX - 1 <= value <= INT64_MAX:
            raise _wrong_type(path, form, "integer")
        if not -1 << (self.bits - 1) <= value < 1 << (self.bits - 1):
            raise UsageError(f"Parameter '{_bare_name(path)}' expects int{self.bits}_t")
        return value


@dataclass(frozen=True, slots=True)
class Unsigned:
    """An unsigned integer of ``bits`` bits. As in QEMU, a negative number is first taken modulo 2^64."""

    bits: int = 64

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if form is not Form.JSON:
            value = _parse(value, form, path, "uint")
            if not (0 if form is Form.OPTION else -UINT64_MAX) <= value <= UINT64_MAX:
                raise _expects(path, form, "uint")
        elif type(value) is not int or not -INT64_MAX - 1 <= value <= UINT64_MAX:
            raise _expects(path, form, "uint64")
        value &= UINT64_MAX
        if value >> self.bits:
            raise UsageError(f"Parameter '{_bare_name(path)}' expects uint{self.bits}_t")
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A number with or without a fraction; only for JSON."""

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _wrong_type(path, form, "number")
        return value


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes; in an option string it may have a unit, like ``4G``."""

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if form is Form.JSON:
            return Unsigned().read(value, form, path)
        return parse_size_option(show_path(path, form), _scalar(value, form, path))


@dataclass(frozen=True, slots=True)
class Null:
    """JSON's null; an option string can't say it."""

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if value is not None:
            raise _wrong_type(path, form, "null")
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of ``words``. QEMU has those in ``lacking`` too."""

    words: tuple[str, ...]
    lacking: frozenset[str] = frozenset()

    def read(self, value: Any, form: Form, path: Path) -> Any:
        word = Text().read(value, form, path)
        if word in self.lacking:
            raise UsageError(f"{_bare_name(path)} '{word}' is not supported: use {_one_of(self.words)}")
        if word not in self.words:
            raise UsageError(f"Parameter '{_bare_name(path)}' does not accept value '{word}'")
        return word


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of values of the kind ``member``."""

    member: Kind

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if not isinstance(value, list):
            raise _wrong_type(path, form, "array")
        return [self.member.read(item, form, (*path, number)) for number, item in enumerate(value)]


@dataclass(frozen=True, slots=True)
class Struct:
    """An object with the given members; those in ``required`` must be present."""

    members: Mapping[str, Kind]
    required: frozenset[str] = frozenset()

    def read(self, value: Any, form: Form, path: Path = ()) -> Any:
        if not isinstance(value, dict):
            raise _wrong_type(path, form, "object")
        found = {}
        for name, kind in self.members.items():
            if name in value:
                found[name] = kind.read(value[name], form, (*path, name))
            elif name in self.required:
                raise UsageError(f"Parameter '{show_path((*path, name), form)}' is missing")
        for name in value:
            if name not in self.members:
                shown = show_path((*path, name), form)
                if form is Form.OPTION:
                    raise UsageError(f"Invalid parameter '{shown}'")
                raise UsageError(f"Parameter '{shown}' is unexpected")
        return found


MAX_DEPTH = 100
"""The most objects inside one another where a type contains itself: a node's file is a node."""


@dataclass(frozen=True, slots=True)
class Union:
    """An object whose member ``tag`` decides which members it has."""

    base: Struct
    tag: str
    branches: Mapping[str, Struct]
    """By value of the tag: the base's members and the further ones."""

    def read(self, value: Any, form: Form, path: Path) -> Any:
        if not isinstance(value, dict):
            raise _wrong_type(path, form, "object")
        if len(path) > MAX_DEPTH:
            raise UsageError(f"more than {MAX_DEPTH} nodes are nested")
        known = {name: value[name] for name in self.base.members if name in value}
        word = self.base.read(known, form, path)[self.tag]
        return self.branches[word].read(value, form, path)


@dataclass(frozen=True, slots=True)
class Alternate:
    """A value of one of several kinds; its JSON type decides which."""

    name: str
    kinds: Mapping[type, Kind]

    def read(self, value: Any, form: Form, path: Path) -> Any:
        kind = self.kinds.get(type(value))
        if kind is None:
            raise UsageError(f"Invalid parameter type for '{_bare_name(path)}', expected: {self.name}")
        return kind.read(value, form, path)


@dataclass(frozen=True, slots=True)
class Anything:
    """A value that is not checked."""

    def read(self, value: Any, form: Form, path: Path) -> Any:
        return value
