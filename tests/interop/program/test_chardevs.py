"""Lines about character devices to a real QEMU and to qmon, on its embedded machine: answers agree."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.peer import Answer
from tests.support.peers import require
from tests.support.thoroughness import examples
from tests.support.two_monitors import TwoMonitors, differing, told

PORTS = [(re.compile(r"(127\.0\.0\.1:)\d+(?=,server)|(?<=/dev/pts/)\d+"), "PORT")]

LINES = """
info chardev
chardev-add
chardev-add x
chardev-add null
chardev-add ""
chardev-add id=x
chardev-add null,id=n
chardev-add null,id=n
chardev-add bogus,id=b
chardev-add null,id=1a
chardev-add null,id=q,foo=bar
chardev-add null,id=q2,path=bar
chardev-add null,id=q3,mux=on
chardev-add backend=null,id=zz
chardev-add null,id=lg,logfile=lg.log,logappend=on
chardev-add null,id=lg2,logfile=/nonexistent/lg.log
chardev-add mux,id=mx
chardev-add file,id=f
chardev-add file,id=f,path=/nonexistent/x
chardev-add file,id=f,path=f.out
chardev-add file,id=f2,path=f2.out,append=on
chardev-add file,id=f3,path=f2.out,append=maybe
chardev-add ringbuf,id=r
chardev-add ringbuf,id=r1,size=100
chardev-add ringbuf,id=r2,size=64
chardev-add ringbuf,id=r3,size=bad
chardev-add ringbuf,id=r4,size=4k
chardev-add ringbuf,id=r5,size=0
chardev-add memory,id=r6
chardev-add socket,id=s
chardev-add socket,id=s,path=a.sock
chardev-add socket,id=s1,path=a.sock,server=on,wait=off
chardev-add socket,id=s2,path=b.sock,server,nowait
chardev-add socket,id=s3,host=127.0.0.1
chardev-add socket,id=s3,port=0
chardev-add socket,id=s3,host=127.0.0.1,port=0,server=on,wait=off
chardev-add socket,id=s6,host=127.0.0.1,port=0,server=on,wait=off,telnet=on
chardev-add socket,id=s7,path=a.sock
chardev-add socket,id=s9,path=c.sock,server=on,wait=off,reconnect=1
chardev-add socket,id=s10,path=c.sock,host=x
chardev-add socket,id=s11,path=c.sock,wait=on
chardev-add socket,id=s16,path=nope.sock
chardev-add socket,id=s17,path=/nonexistent/x.sock,server=on,wait=off
chardev-add socket,id=s18,fd=77
chardev-add socket,id=s19,host=127.0.0.1,port=1,reconnect=x
chardev-add socket,id=s20,path=x.sock,reconnect=99999999999999999999
chardev-add socket,id=s20,path=x.sock,reconnect=+5x
chardev-add null,help
chardev-add null,id=s21,?
chardev-add pty,id=p
chardev-add pipe,id=pi
chardev-add pipe,id=pi,path=nofifo
chardev-add stdio,id=st
chardev-add stdio,id=st2
chardev-add udp,id=u
chardev-add udp,id=u,host=127.0.0.1,port=9
info chardev
chardev-remove
chardev-remove nosuch
chardev-remove compat_monitor0
chardev-remove q3
chardev-remove n
chardev-remove f
chardev-remove s3
chardev-send-break nosuch
chardev-send-break p
chardev-send-break r2
ringbuf_write nosuch abc
ringbuf_write f2 abc
ringbuf_write r2 abc
ringbuf_read r2 2
ringbuf_read r2 20
ringbuf_read r2 20
ringbuf_read nosuch 20
ringbuf_read f2 20
ringbuf_write r2 "a\\nb\\\\c\\rd"
ringbuf_read r2 20
ringbuf_write r2 0123456789012345678901234567890123456789012345678901234567890123456789
ringbuf_read r2 100
ringbuf_read r2 -1
ringbuf_read r2 0
chardev-change
chardev-change nosuch null
chardev-change nosuch null,id=x
chardev-change compat_monitor0 null
chardev-change q3 null
chardev-change f2 bogus
chardev-change f2 null,id=f2
chardev-change f2 file
chardev-change f2 socket,path=d.sock,server=on,wait=off
chardev-change f2 file,path=zz
info chardev
"""


@pytest.fixture(scope="module")
def monitors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMonitors]:
    require("qemu-system-x86_64")
    with TwoMonitors(tmp_path_factory.mktemp("chardevs"), noise=PORTS) as monitors:
        yield monitors


def test_every_line_is_answered_as_qemu_answers_it(monitors: TwoMonitors) -> None:
    found = {
        line: (theirs, ours)
        for line, (theirs, ours) in differing(monitors, [line for line in LINES.split("\n") if line]).items()
        # QEMU lists them in the order of a hash table.
        if line != "info chardev" or sorted(ours) != sorted(theirs)
    }
    assert not found, told(found)


numbers = itertools.count()
letters = st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters='"\\\x7f').filter(
    # \x9b QEMU takes for the beginning of a key, even there; other controls it prints
    lambda letter: b"\x9b" not in letter.encode() and not "\x80" <= letter <= "\x9f"
)
words = st.text(letters, min_size=1, max_size=40)
writes = st.lists(st.tuples(words, st.integers(1, 70)), min_size=1, max_size=6)


@settings(max_examples=examples(30))
@given(size=st.sampled_from([1, 2, 16, 64]), steps=writes)
def test_a_ring_buffer_keeps_what_qemu_s_keeps(
    monitors: TwoMonitors, size: int, steps: list[tuple[str, int]]
) -> None:
    ring = f"ring{next(numbers)}"
    lines = [f"chardev-add ringbuf,id={ring},size={size}"]
    for word, length in steps:
        lines += [f'ringbuf_write {ring} "{word}"', f"ringbuf_read {ring} {length}"]
    lines += [f"ringbuf_read {ring} 100", f"chardev-remove {ring}"]
    found = {
        line: (theirs, ours)
        for line, (theirs, ours) in differing(monitors, lines).items()
        if shown(theirs) != shown(ours)
    }
    assert not found, told({line: (shown(theirs), shown(ours)) for line, (theirs, ours) in found.items()})


def shown(answer: Answer) -> Answer:
    """An answer as text: half a character, which QEMU prints as it is, is U+FFFD."""
    return tuple(line.encode(errors="surrogateescape").decode(errors="replace") for line in answer)
