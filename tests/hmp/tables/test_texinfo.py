"""Documentation of tables before QEMU 5.0 is shown as text."""

from __future__ import annotations

from pathlib import Path

from qmon.hmp.tables.hx import read
from qmon.hmp.tables.manual import page
from qmon.hmp.tables.table import Command
from qmon.hmp.tables.texinfo import is_texinfo, plain_text

TEXINFO = """
@item move [-@var{d}] @var{where} or @code{m}
@itemx m
@findex move
@cindex going
Go to @var{where}, by @code{tcp:@var{host}} or by @file{path}; this is a line
that is wrapped anew since together with the next one it is too long.

@c nobody reads this
@table @option
@item -d
do not wait@dots{} for it
@itemize @minus
@item
one thing
@end itemize
@end table
@example
(qemu) move   a
@{b@} c@@d
@end example
See @ref{stop}.
@end table
"""

TEXT = """
move [-d] where or m
m
  Go to where, by tcp:host or by path; this is a line that is wrapped anew
  since together with the next one it is too long.

  -d
    do not wait... for it
    - one thing

    (qemu) move   a
    {b} c@d

  See stop.
"""


def test_texinfo_becomes_text() -> None:
    assert is_texinfo(TEXINFO)
    assert plain_text(TEXINFO) == TEXT.strip()


def test_rest_is_no_texinfo() -> None:
    assert not is_texinfo("``mail`` *who*\n  Write to x@y.org, or\n  @item.\n")


def test_a_command_of_an_older_table_has_a_page() -> None:
    table = Path(__file__).parent / "data" / "texinfo.hx"
    help_ = next(entry for entry in read(table.read_text(), "texinfo.hx") if entry.name == "help|?")
    assert page(Command(help_, "texinfo.hx")).startswith("help or ? [cmd]\n  It's here: ")
