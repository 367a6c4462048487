"""What the console has on the terminal: the output, and below it the part that is redrawn."""

from __future__ import annotations

import os
import shutil
import sys

from prompt_toolkit.data_structures import Size

from qmon.console.picture import wrapped
from qmon.console.prompt import Prompt
from qmon.console.screen import DrawnScreen, PlainScreen, Screen
from qmon.console.settings import Settings
from qmon.console.style import build_style
from qmon.console.terminal import TerminalOutput, open_input, open_output
from qmon.console.view import Status, build_application


class Display:
    """The application that owns the terminal, the status that it shows, and the screen for output."""

    def __init__(self, prompt: Prompt, settings: Settings) -> None:
        style = build_style(settings.colours)
        output = open_output(sys.stdout, os.environ.get("TERM"), plain=settings.plain)
        self.status = Status(busy=True, hint=prompt.hint)
        self.application = build_application(
            self.status, prompt.buffer, prompt.lexer, open_input(), output, style
        )
        self.is_redrawn = not settings.plain
        """Whether the terminal can be redrawn."""
        self.screen: Screen = (
            DrawnScreen(self.application, self.status, prompt.lexer, style)
            if self.is_redrawn
            else PlainScreen(sys.stdout, self.status, prompt.buffer)
        )

    def notify(self, text: str) -> None:
        """Show text above the line being typed; a newline is added."""
        self.screen.write(text + "\n")

    def tell(self, text: str) -> None:
        """As ``notify``, for what the program says itself: its words stay whole."""
        self.notify(wrapped(text, self.columns))

    def send(self, sequence: str) -> None:
        """Send a sequence that shows nothing, such as the bell, to the terminal."""
        self.application.output.write_raw(sequence)
        self.application.output.flush()

    @property
    def size(self) -> Size:
        """The rows and columns of the terminal; a fixed size if it can't be redrawn."""
        return self.application.output.get_size()

    @property
    def columns(self) -> int:
        """The width of the terminal."""
        return self.size.columns if self.is_redrawn else shutil.get_terminal_size().columns

    def leave(self) -> None:
        """Leave the terminal as it was found."""
        self.screen.close()
        if isinstance(self.application.output, TerminalOutput):
            self.application.output.leave()
