"""The same lines to a real QEMU's monitor and to ours, which drives a second QEMU by QMP: answers agree."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.hmp.monitor import Monitor
from qmon.hmp.tables.table import Tables
from qmon.qmp.registry import Registry
from tests.support.peer import Peer
from tests.support.peers import require
from tests.support.qemu_target import QmpTarget, compare, named_qemu, ours
from tests.support.thoroughness import examples
from tests.support.waiting import PATIENCE


@pytest.fixture(scope="module")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    require("qemu-system-x86_64", "qemu-img")
    with named_qemu(tmp_path_factory.mktemp("hmp") / "q") as peer:
        yield peer


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QmpTarget]:
    require("qemu-system-x86_64", "qemu-img")
    with named_qemu(tmp_path_factory.mktemp("qmp") / "q") as peer, peer.qmp() as client:
        yield QmpTarget(client)


COMMANDS = """\
info status
stop
info status
   info   status
cont
s
c
info name
info uuid
info version
info block
info block d0
info block ro
info block -v
info block -v d1
info block -n
info block -n -v
info block nosuch
info block -v -x
info block "d1"
info migrate
info migrate_parameters
migrate_set_parameter max-bandwidth 100
migrate_set_parameter max-bandwidth 1.5G
migrate_set_parameter max-bandwidth 10Q
migrate_set_parameter max-bandwidth -1
migrate_set_parameter max-bandwidth 16E
migrate_set_parameter max-bandwidth ""
migrate_set_parameter downtime-limit 50
migrate_set_parameter downtime-limit 1k
migrate_set_parameter downtime-limit 1.5
migrate_set_parameter downtime-limit abc
migrate_set_parameter downtime-limit 3000000
migrate_set_parameter cpu-throttle-initial 30
migrate_set_parameter cpu-throttle-initial 300
migrate_set_parameter cpu-throttle-initial 200
migrate_set_parameter cpu-throttle-tailslow on
migrate_set_parameter cpu-throttle-tailslow maybe
migrate_set_parameter multifd-compression zlib
migrate_set_parameter multifd-compression nosuch
migrate_set_parameter tls-hostname example.org
migrate_set_parameter announce-max 600
migrate_set_parameter announce-initial 1234567
migrate_set_parameter block-bitmap-mapping x
migrate_set_parameter nosuch 1
migrate_set_parameter block-incremental on
info migrate_parameters
migrate_cancel
migrate_incoming tcp:127.0.0.1:1
migrate nosuch
migrate -d nosuch:x
migrate -r tcp:127.0.0.1:1
nbd_server_stop
nbd_server_add d0
nbd_server_remove nosuch
nbd_server_start -w unix:x
nbd_server_start nosuch
nbd_server_start tcp:nosuch
nbd_server_start unix:n.sock
nbd_server_start unix:n.sock
nbd_server_add -w d0
nbd_server_add d0 other
nbd_server_add nosuch
nbd_server_remove d0
nbd_server_remove -f d0
nbd_server_remove -f other
nbd_server_stop
nbd_server_start -a unix:n.sock
nbd_server_stop
migrate -d "exec:cat >/dev/null"
""".splitlines()

GRAMMAR = """\

   foo
foo bar
foo/bar
info foo bar
   info   foo
info/x status
info "block"
"info" block
help foo
help info foo
help "foo
help / x
?x
? info nosuch
help info info
help migrate
? ?
help q
help print
help info block
help info block x
help nbd_server_add
help nbd_server_remove
help nbd_server_stop
help drive_add
help migrate_set_parameter
help migrate_incoming
migrate
migrate -b
migrate -x tcp:127.0.0.1:1
migrate -d -b tcp:127.0.0.1:1 more
migrate -db tcp:127.0.0.1:1
migrate -d "tcp:127.0.0.1:1" x
migrate -r -r x
migrate -d -d x
migrate -i -x
migrate - x
migrate --
migrate_incoming
migrate_incoming a b
info block -x
info block --v
info block "d0
info block d0 more
info block "d0"-v
info block d0 -v
drive_add
drive_add 0
drive_add -x 0 file=x
drive_del
drive_del nosuch more
migrate_set_parameter
migrate_set_parameter max-bandwidth
migrate_set_parameter a b c
nbd_server_start
nbd_server_start -x localhost:10809
nbd_server_add
nbd_server_add -x
nbd_server_remove
nbd_server_remove -x
nbd_server_stop x
quit x
  q   x
stop/x
stop # x
# x
print 1
p 1
print/d 10
print 10
print/o 8
print/u -1
print/i 5
print 6
print/xb 0x1ff
print/h 7
print/c 65
print/c 10
print/c 300
print/c -1
print/c 39
print/c 0
print /x 5
print   /x   5
print/ 5
print/x5
print/q 1
print/-x 5
print/1000000x 5
print/d 18446744073709551615
print/d 18446744073709551616
print/d 9223372036854775807+1
print/d -9223372036854775808/1
print/d 010
print/d 08
print/d 0b1
print 0x
print/d $nosuch
print/d 'é'
print/d '''
print/d ''
print/d "5"
""".splitlines()

READ_ONLY = """\
block_resize
block_resize d0
block_resize d0 -1
block_resize d0 10Z
block_resize d0 1e3
block_resize d0 .5
block_resize d0 1.5.5
block_resize d0 1.5B
block_resize d0 0x1.8
block_resize d0 8E
block_resize d0 inf
block_resize d0 99999999999999999999
block_resize d0 1M more
block_resize "d0
block_resize "d\\q" 1M
eject "
eject -x d0
eject "d0"x
screendump
screendump "x
screendump x -f
screendump x -f "
screendump x -x
netdev_add "x
netdev_add x=y more
set_link a maybe
set_link a onx
set_link a
balloon -1
balloon
balloon 1 2
i 0x1ffffffff
i 1 . x
i 1.
o 1 -1
o 1
object_add
""".splitlines()

READ_ONLY_TABLE = "".join(
    f'{{ .name = "{name}", .args_type = "{args_type}", .cmd = hmp_nothing }},\n'
    for name, args_type in (
        ("block_resize", "device:B,size:o"),
        ("eject", "force:-f,device:B"),
        ("screendump", "filename:F,format:-fs,device:s?,head:i?"),
        ("netdev_add", "netdev:O"),
        ("set_link", "name:s,up:b"),
        ("balloon", "value:M"),
        ("i", "fmt:/,addr:i,index:i."),
        ("o", "fmt:/,addr:i,val:i"),
        ("object_add", "object:S"),
    )
)


def test_commands_and_the_end_of_their_migration_are_answered_as_by_qemu(
    qemu: Peer, target: QmpTarget
) -> None:
    monitor = Monitor(target)
    compare(qemu, monitor, COMMANDS)

    def settled(ask: Callable[[], str]) -> list[str]:
        deadline = time.monotonic() + PATIENCE
        while "completed" not in (text := ask()):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        return [re.sub(r"[\d.]+", "N", line) for line in text.split("\n")]

    assert settled(lambda: ours(monitor, ["info migrate"])[0]) == settled(
        lambda: qemu.command("info migrate")
    )
    compare(qemu, monitor, ["info status"])


def test_lines_that_can_not_be_read_are_refused_in_qemus_words(qemu: Peer) -> None:
    compare(qemu, Monitor(Registry()), GRAMMAR)


def test_arguments_of_every_type_are_refused_in_qemus_words(qemu: Peer) -> None:
    compare(qemu, Monitor(Registry(), Tables.parse(READ_ONLY_TABLE, {})), READ_ONLY)


@settings(max_examples=examples(300))
@given(text=st.text(st.sampled_from("0123789xabXF+-*/%&|^~()' $"), max_size=12))
def test_any_expression_has_the_same_answer(qemu: Peer, text: str) -> None:
    compare(qemu, Monitor(Registry()), [f"print/d {text}"])


@settings(max_examples=examples(200))
@given(text=st.text(st.sampled_from('"\\nrdq z-=,'), max_size=12))
def test_any_quoting_has_the_same_answer(qemu: Peer, text: str) -> None:
    compare(qemu, Monitor(Registry()), [f"help z{text}", f'help "{text}', f"quit {text}z"])


def test_the_history_is_told_as_qemu_tells_it(tmp_path: Path) -> None:
    require("qemu-system-x86_64", "qemu-img")
    with named_qemu(tmp_path / "q") as peer:
        compare(peer, Monitor(Registry()), ["foo", "info history", "print 1 ", "info  history"])
