"""Key bindings of the console; prompt_toolkit binds the editing keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition, has_focus, has_selection, vi_navigation_mode
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.search import stop_search

from qmon.console.terminal import BurstPress


class Actions(Protocol):
    """The console's actions that keys can call."""

    def enter(self) -> None:
        """Run the line being typed, after the running command and the waiting lines."""

    def interrupt(self) -> None:
        """Stop the running command; if none runs, clear the line being typed."""

    def end_of_input(self) -> None:
        """Quit: nothing more will be typed."""

    def paste(self, text: str) -> None:
        """Take a pasted text, unchanged."""

    def burst(self, text: str) -> None:
        """Take a text that arrived at once, unchanged: it was pasted, or a program typed it."""

    def edit(self) -> None:
        """Open the line being typed in an editor."""

    def suspend(self) -> None:
        """Give the terminal to the shell while the machine goes on."""

    def answer(self, yes: bool) -> None:
        """Answer the question on the screen."""

    def run_line(self, line: str) -> None:
        """Run a line that is bound to a key, and keep the line being typed."""


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


def build_keys(
    actions: Actions, buffer: Buffer, asking: Callable[[], bool], lines: Mapping[str, str]
) -> KeyBindings:
    """Bind Enter, Ctrl-C, Ctrl-D, Ctrl-Z, Ctrl-X Ctrl-E, pastes; ``y`` and ``n`` while ``asking()`` is true.

    ``lines`` are the lines of further keys, which are free.
    """
    keys = KeyBindings()
    is_asking = Condition(asking)
    at_line = has_focus(buffer) & ~is_asking

    @keys.add(Keys.ControlM, filter=at_line)
    @keys.add(Keys.ControlJ, filter=at_line)
    def _enter(event: KeyPressEvent) -> None:
        actions.enter()

    @keys.add(Keys.ControlC, eager=True, filter=has_focus(buffer) | is_asking)
    def _interrupt(event: KeyPressEvent) -> None:
        actions.interrupt()

    @keys.add(Keys.ControlZ, eager=True)
    def _suspend(event: KeyPressEvent) -> None:
        actions.suspend()

    @keys.add(Keys.ControlD, filter=at_line & Condition(lambda: not buffer.text))
    def _end(event: KeyPressEvent) -> None:
        actions.end_of_input()

    @keys.add(Keys.ControlX, Keys.ControlE, filter=at_line)
    @keys.add("v", filter=at_line & vi_navigation_mode & ~has_selection)
    def _edit(event: KeyPressEvent) -> None:
        actions.edit()

    for names, line in lines.items():

        @keys.add(*names.split(), filter=at_line)
        def _run(event: KeyPressEvent, line: str = line) -> None:
            actions.run_line(line)

    @keys.add(Keys.BracketedPaste, eager=True)
    def _paste(event: KeyPressEvent) -> None:
        if event.app.layout.is_searching:
            stop_search()
        take = actions.burst if isinstance(event.key_sequence[-1], BurstPress) else actions.paste
        take(event.data)

    @keys.add(Keys.Any, eager=True, filter=is_asking)
    def _answer(event: KeyPressEvent) -> None:
        if event.data in ("y", "Y"):
            actions.answer(True)
        elif event.data in ("n", "N"):
            actions.answer(False)

    return keys
