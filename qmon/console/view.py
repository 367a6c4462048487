"""The layout below the output: the prompt with the line being typed, or a command's bar or question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.layout import (
    BufferControl,
    CompletionsMenu,
    ConditionalContainer,
    Dimension,
    Float,
    FloatContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    VerticalAlign,
    Window,
)
from prompt_toolkit.layout.processors import (
    AppendAutoSuggestion,
    HighlightIncrementalSearchProcessor,
    Processor,
    Transformation,
    TransformationInput,
)
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.output import Output
from prompt_toolkit.styles import BaseStyle
from prompt_toolkit.widgets import SearchToolbar

from qmon.console.picture import fit
from qmon.console.progress import Bar
from qmon.console.terminal import BURST_GAP
from qmon.hmp.prompt import PROMPT

_MENU_ROWS = 8


@dataclass(slots=True)
class Status:
    """The console's state, as the screen shows it."""

    prompt: str = PROMPT
    busy: bool = False
    """Whether a command runs; then no prompt is shown."""
    question: str = ""
    """The running command's question, with the possible answers."""
    bars: list[Bar] = field(default_factory=list)
    """The running command's progress bars; the last one is shown."""
    picture: str = ""
    """The answer of a line that is repeated."""
    toolbar: Callable[[], StyleAndTextTuples] | None = None
    """Returns the text of the row below the prompt; None if there is no such row."""
    hint: Callable[[], str] = str
    """Returns the text that is shown in grey after the line being typed."""


class Hint(Processor):
    """Shows in grey which arguments may follow, unless the history suggests the rest of the line."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        fragments = transformation_input.fragments
        buffer = transformation_input.buffer_control.buffer
        last = transformation_input.lineno == transformation_input.document.line_count - 1
        suggested = buffer.suggestion is not None and bool(buffer.suggestion.text)
        if last and not suggested and buffer.document.is_cursor_at_the_end and (text := self._status.hint()):
            fragments = [*fragments, ("class:hint", text)]
        return Transformation(fragments)


def build_application(
    status: Status,
    buffer: Buffer,
    lexer: Lexer,
    terminal: Input,
    output: Output,
    style: BaseStyle,
) -> Application[None]:
    """Build the application that owns the terminal from the first prompt to the end; it has no keys yet."""

    def bar() -> StyleAndTextTuples:
        # leave the last column free: some terminals wrap as soon as it is written
        return [("class:progress", status.bars[-1].text(output.get_size().columns - 1))]

    def picture() -> str:
        size = output.get_size()
        return fit(status.picture, size.rows, size.columns)

    def prefix(line_number: int, wrap_count: int) -> StyleAndTextTuples:
        first = line_number == 0 and wrap_count == 0
        return [("class:prompt", status.prompt)] if first and not status.busy else []

    def height() -> Dimension:
        menu = buffer.complete_state
        return Dimension(min=1 + min(_MENU_ROWS, len(menu.completions)) if menu else 1)

    search = SearchToolbar()
    line = Window(
        BufferControl(
            buffer,
            lexer=lexer,
            input_processors=[Hint(status), AppendAutoSuggestion(), HighlightIncrementalSearchProcessor()],
            search_buffer_control=search.control,
            preview_search=True,
        ),
        height=height,
        get_line_prefix=prefix,
        wrap_lines=True,
        dont_extend_height=True,
    )
    layout = HSplit(
        [
            ConditionalContainer(
                Window(FormattedTextControl(picture), dont_extend_height=True),
                Condition(lambda: bool(status.picture)),
            ),
            ConditionalContainer(
                Window(FormattedTextControl(bar), height=1),
                Condition(lambda: bool(status.bars) and not status.question),
            ),
            ConditionalContainer(
                Window(
                    FormattedTextControl(lambda: [("class:question", status.question)]),
                    wrap_lines=True,
                    dont_extend_height=True,
                ),
                Condition(lambda: bool(status.question)),
            ),
            FloatContainer(
                ConditionalContainer(line, Condition(lambda: not status.busy or bool(buffer.text))),
                [Float(CompletionsMenu(max_height=_MENU_ROWS, scroll_offset=1), xcursor=True, ycursor=True)],
            ),
            search,
            ConditionalContainer(
                Window(
                    FormattedTextControl(lambda: status.toolbar() if status.toolbar else []),
                    style="class:toolbar",
                    height=1,
                    wrap_lines=False,
                ),
                Condition(lambda: status.toolbar is not None and (not status.busy or bool(buffer.text))),
            ),
        ],
        align=VerticalAlign.TOP,
    )
    application: Application[None] = Application(
        layout=Layout(layout, line),
        style=style,
        include_default_pygments_style=False,
        erase_when_done=True,
        terminal_size_polling_interval=None,
        input=terminal,
        output=output,
    )
    application.ttimeoutlen = BURST_GAP
    return application
