"""The place of an argument that is completed, and what its completion is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from qmon.hmp.tables.signature import Parameter, Values
from qmon.qmp.target import Arguments, Kind, Target, ask, kind_of

Choice = tuple[str, str]
"""A text and its meaning."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place to complete: ``typed`` is the beginning of the word, ``values`` are the arguments before it."""

    target: Target
    command: str
    """The command as typed: ``info block``."""
    parameter: Parameter
    values: Values
    typed: str

    @property
    def key(self) -> str:
        return self.parameter.key

    @property
    def is_on_qemu(self) -> bool:
        """Whether the target is a QEMU."""
        return kind_of(self.target) is Kind.QEMU

    async def ask(self, query: str, arguments: Arguments | None = None) -> Any:
        """Return the target's answer, [] if it has no such query."""
        return await ask(self.target, query, [], arguments)


Completer = Callable[[Place], Awaitable[list[Choice]]]


def behind(separator: str, typed: str, choices: Iterable[Choice]) -> list[Choice]:
    """Return the choices for the next part of a list, after the last separator in ``typed``."""
    head = typed[: typed.rfind(separator) + 1]
    return [(head + text, meaning) for text, meaning in choices]


def unused(keys: Iterable[Choice], typed: str) -> list[Choice]:
    """Return the keys, such as ``id=``, that are not in a list with commas before its last part."""
    return [(key, meaning) for key, meaning in keys if f",{key}" not in f",{typed.rpartition(',')[0]},"]
