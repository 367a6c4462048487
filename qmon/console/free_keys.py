"""The keys to which a line can be bound."""

from __future__ import annotations

from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys

_TAKEN = (
    Keys.ControlC,
    Keys.ControlD,
    Keys.ControlH,
    Keys.ControlI,
    Keys.ControlJ,
    Keys.ControlM,
    Keys.ControlZ,
    Keys.Escape,
)


def is_free(keys: str) -> bool:
    """Whether a line can be bound to these keys: they are keys, type no text and have no fixed meaning."""
    bindings = KeyBindings()
    try:
        bindings.add(*keys.split())(lambda event: None)
    except (ValueError, AssertionError):  # of no key at all: AssertionError
        return False
    first, *others = bindings.bindings[0].keys
    return (
        isinstance(first, Keys)
        and first not in (Keys.Any, Keys.BracketedPaste)
        and (bool(others) or first not in _TAKEN)
    )
