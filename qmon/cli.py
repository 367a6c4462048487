"""The command line: builds what it names and runs it.

Options are read before anything heavy is imported, so that ``-version`` and a wrong option answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qmon.errors import QmonError, UsageError, reason
from qmon.option_table import help_text
from qmon.options import Options, Show, parse
from qmon.version import VERSION

if TYPE_CHECKING:
    from qmon.daemon import Launcher


def main(argv: Sequence[str] | None = None) -> int:
    """Run qmon; return its exit status."""
    _open_standard_streams()
    status = _main(argv)
    try:
        sys.stdout.flush()
    except OSError as error:
        # else the interpreter would try again at its end, and tell of that with a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status or _complain(f"standard output: {reason(error)}")
    return status


def _open_standard_streams() -> None:
    """Put /dev/null where a standard stream was closed: else the next file opened would take its place."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _main(argv: Sequence[str] | None) -> int:
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        return _complain(str(error))
    match options.show:
        case Show.VERSION:
            print(f"qmon version {VERSION}")
            return 0
        case Show.HELP:
            print(help_text("qmon"))
            return 0
        case Show.OBJECTS:
            from qmon.object_options import help_lines

            print("\n".join(help_lines(options.object_type)))
            return 0
    if options.note and not options.quiet:
        print(f"qmon: {options.note}", file=sys.stderr)
    return _start(options)


def _complain(text: str) -> int:
    print(f"qmon: {text}", file=sys.stderr, flush=True)
    return 1


def _start(options: Options) -> int:
    launcher: Launcher | None = None
    try:
        if options.daemonize:
            from qmon.daemon import Launcher

            launcher = Launcher()  # forks, so it comes before any thread and before the loop
            if launcher.is_parent:
                return launcher.wait()
        import asyncio

        from qmon.run import Program

        return asyncio.run(Program(options, launcher).run())
    except (QmonError, OSError) as error:
        text = reason(error)
        if isinstance(error, OSError) and error.filename:
            text = f"{error.filename}: {text}"
        if launcher is not None:
            launcher.failed(f"qmon: {text}")
            return 1
        return _complain(text)
