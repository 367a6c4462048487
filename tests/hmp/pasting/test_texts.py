"""Texts as people find them, and the commands in them."""

from __future__ import annotations

import html

import pytest

from qmon.hmp.pasting.doctor import read_pasted
from qmon.hmp.tables.table import default_tables

MAIL = """\
On Mon, 3 Feb 2025, Alice wrote:
> Hi Bob,
>
> to move the disk, run on the source:
>
>   1. (qemu) info block
>   2. (qemu) migrate -d blk tcp:192.0.2.7:4444
>
> and look at it with
>
> > (qemu) info migrate
>
> --
> Alice
"""
WIKI = """\
== Limits ==
First look at the drives:
<pre>
# virsh qemu-monitor-command web1 --hmp 'info block'
drive-virtio0: /images/web1.img (raw)
# virsh list --all
$ echo "info migrate_parameters" | sudo socat - UNIX-CONNECT:/run/web1.mon
</pre>
"""
WORD_PROCESSOR = """\
\u2022 Stop the guests\u2019 writes:
\u00a0\u00a0\u00a0\u00a0stop
\u2022 Show the block devices \u2013 with details:
    info block \u2013v
\u2022 Set the limit (see \u201cLimits\u201d):
    migrate_set_parameter\u00a0max-bandwidth \\
        10M
\u2022 Go on:
cont
Thank you.
"""
CHAT = """\
[12:01] <alice> how do I see the disks?
[12:02] <bob> info block
12:03 bob: `stop`
"""
MARKDOWN = """\
## Move it

1. Stop the machine.

   ```console
   $ stop
   ```
2. `info status` tells the state:

   ~~~
   info status
   ~~~
- [ ] cont
"""
PROXMOX = """\
root@pve:~# qm monitor 100
Entering QEMU Monitor for VM 100 - type 'help' for help
qm> info status
VM status: running
qm> quit
"""
HERE_DOCUMENT = """\
socat - UNIX-CONNECT:/run/m.sock <<EOF
stop
info status
EOF
"""
TICKET = """\
{code:title=source|language=bash}
(qemu) stop
(qemu) cont
{code}
"""

TEXTS = {
    "mail": (MAIL, ("info block", "migrate -d blk tcp:192.0.2.7:4444", "info migrate")),
    "wiki": (WIKI, ("info block", "info migrate_parameters")),
    "word processor": (
        WORD_PROCESSOR,
        ("stop", "info block -v", "migrate_set_parameter max-bandwidth 10M", "cont"),
    ),
    "chat": (CHAT, ("info block", "stop")),
    "Markdown": (MARKDOWN, ("stop", "info status", "cont")),
    "Proxmox": (PROXMOX, ("info status", "quit")),
    "here-document": (HERE_DOCUMENT, ("stop", "info status")),
    "ticket": (TICKET, ("stop", "cont")),
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("quoted", ["", "> "])
def test_the_commands_are_found(kind: str, quoted: str) -> None:
    text, commands = TEXTS[kind]
    text = "".join(quoted + line for line in text.splitlines(keepends=True))
    pasted = read_pasted(default_tables(), text)
    assert pasted.lines == commands
    assert pasted.is_changed


def test_the_source_of_a_web_page_is_read() -> None:
    pasted = read_pasted(default_tables(), "".join(f"{html.escape(line)}\n" for line in MAIL.splitlines()))
    assert pasted.lines == TEXTS["mail"][1]
