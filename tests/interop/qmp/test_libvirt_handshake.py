"""libvirt asks qmon for its abilities as it asks a QEMU, and its handshake succeeds."""

from __future__ import annotations

from tests.support.libvirt import Libvirt
from tests.support.peers import require
from tests.support.processes import Lab

EMULATOR = """\
#!/bin/sh
# In the place of a QEMU in the background: passes its QMP socket on to a qmon.
while [ $# -gt 0 ]; do
    case $1 in
    -qmp) path=${{2#unix:}} ;;
    -pidfile) pidfile=$2 ;;
    esac
    shift
done
path=${{path%%,*}}
socat UNIX-LISTEN:"$path" UNIX-CONNECT:{socket} </dev/null >/dev/null 2>&1 &
echo $! >"$pidfile"
while [ ! -S "$path" ]; do sleep 0.01; done
"""


def test_libvirt_takes_qmon_for_a_qemu_that_is_new_enough(lab: Lab) -> None:
    require("socat")
    with Libvirt() as libvirt:
        socket = libvirt.folder / "qmon.qmp"
        lab.start("qmon", "-qmp", f"unix:{socket},server,nowait")
        socket.chmod(0o666)
        emulator = libvirt.folder / "emulator"
        emulator.write_text(EMULATOR.format(socket=socket))
        emulator.chmod(0o755)
        said = libvirt.virsh_error("domcapabilities", "--virttype", "qemu", "--emulatorbin", str(emulator))
        assert "failed to get emulator capabilities" in said
        # It asks this first after the greeting, the negotiation and a look at the version.
        assert "unable to execute QEMU command 'query-target'" in libvirt.log()
