"""Key bindings of the console; prompt_toolkit binds the editing keys."""

from __future__ import annotations

from collections.abc import Mapping

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition, has_focus, has_selection, vi_navigation_mode
from prompt_toolkit.key_binding import KeyBindings, KeyBindingsBase, KeyPressEvent, merge_key_bindings
from prompt_toolkit.key_binding.bindings.auto_suggest import load_auto_suggest_bindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.search import stop_search

from qmon.console.actions import Actions
from qmon.console.lines import Lines
from qmon.console.person import TerminalPerson
from qmon.console.suspension import Suspension
from qmon.console.terminal import BurstPress


def build_keys(
    buffer: Buffer,
    actions: Actions,
    lines: Lines,
    person: TerminalPerson,
    suspension: Suspension,
    bindings: Mapping[str, str],
) -> KeyBindingsBase:
    """Bind Enter, Ctrl-C, Ctrl-D, Ctrl-Z, Ctrl-X Ctrl-E, pastes; ``y`` and ``n`` while a question waits.

    ``bindings`` are the lines of further keys, which are free.
    """
    keys = KeyBindings()
    is_asking = Condition(lambda: person.is_asked)
    at_line = has_focus(buffer) & ~is_asking

    @keys.add(Keys.ControlM, filter=at_line)
    @keys.add(Keys.ControlJ, filter=at_line)
    def _enter(event: KeyPressEvent) -> None:
        actions.enter()

    @keys.add(Keys.ControlC, eager=True, filter=has_focus(buffer) | is_asking)
    def _interrupt(event: KeyPressEvent) -> None:
        lines.interrupt()

    @keys.add(Keys.ControlZ, eager=True)
    def _suspend(event: KeyPressEvent) -> None:
        suspension.begin()

    @keys.add(Keys.ControlD, filter=at_line & Condition(lambda: not buffer.text))
    def _end(event: KeyPressEvent) -> None:
        actions.end_of_input()

    @keys.add(Keys.ControlX, Keys.ControlE, filter=at_line)
    @keys.add("v", filter=at_line & vi_navigation_mode & ~has_selection)
    def _edit(event: KeyPressEvent) -> None:
        actions.edit()

    for names, line in bindings.items():

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
            person.say(True)
        elif event.data in ("n", "N"):
            person.say(False)
        else:
            person.ask_again()

    return merge_key_bindings([load_auto_suggest_bindings(), keys])
