"""Other projects' QMP clients drive qmon as they drive QEMU."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.peer import QEMU_7, QMON_HERE, Peer
from tests.support.peers import require
from tests.support.waiting import PATIENCE

CLIENTS = Path("/opt/qmp-clients")
PYTHON = str(CLIENTS / "bin" / "python")

LABGRID = """
import json, socket, sys
from labgrid.util.qmp import QMPError, QMPMonitor
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
monitor = QMPMonitor(connection.makefile("rb"), connection.makefile("wb"))
said = [monitor.execute("query-status")["status"], monitor.execute("stop")]
said.append(monitor.execute("query-status")["status"])
said.append(monitor.execute("human-monitor-command", {"command-line": "info status"}))
monitor.execute("cont")
try:
    monitor.execute("nosuch")
except (QMPError, TypeError):  # its exception takes text alone
    said.append("an error")
print(json.dumps(said))
"""

AVOCADO = """
import json, os, sys, time
from virttest import qemu_monitor
class Machine:
    name = "vm"
    def check_capability(self, flag): return True
    def get_pid(self): return os.getpid()
    params = {}
monitor = qemu_monitor.QMPMonitor(Machine(), "m", {"monitor_filename": sys.argv[1]})
said = [monitor.verify_status("running"), monitor.is_responsive()]
monitor.cmd("stop")
said += [monitor.verify_status("paused"), [each["event"] for each in monitor.get_events()]]
monitor.cmd("cont")
said.append(monitor.human_monitor_cmd("info status"))
said.append(sorted(each["device"] for each in monitor.info("block")))
monitor.cmd("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "nbd"}}})
node = monitor.info("block")[0]["inserted"]["node-name"]
monitor.cmd("block-export-add", {"type": "nbd", "id": "e0", "node-name": node})
monitor.cmd("block-export-del", {"id": "e0"})
while (deleted := monitor.get_event("BLOCK_EXPORT_DELETED")) is None:  # QEMU tells it behind its answer
    time.sleep(0.01)
said.append(deleted["data"])
try:
    monitor.cmd("block_resize", {"device": "nosuch", "size": 1})
except qemu_monitor.QMPCmdError as error:
    said.append(error.data["class"])
said.append(monitor.verify_supported_cmd("query-block") is None)
print(json.dumps(said))
"""

NPM = """
const QMP = require(process.argv[2] + '/node_modules/qemu-qmp');
const qmp = new QMP();
const said = [];
qmp.connect(process.argv[1], function (error) {
  if (error) throw error;
  said.push(qmp.version.qemu.major);
  qmp.on('stop', () => said.push('stop'));
  qmp.execute('query-status', function (error, status) {
    said.push(status.status);
    qmp.execute('stop', function (error) {
      said.push(error === null || error === undefined);
      qmp.execute('nosuch', function (error) {
        said.push(String(error));
        qmp.execute('cont', function () {
          console.log(JSON.stringify(said));
          qmp.end();
        });
      });
    });
  });
});
"""


def said_by(client: Sequence[str], program: Sequence[str], folder: Path, *more: str) -> Any:
    """What a client has seen of a program."""
    with Peer(program, folder) as peer:
        done = subprocess.run(
            [*client, str(peer.qmp_path), *more],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("client", "more"),
    [
        pytest.param([PYTHON, "-c", LABGRID], (), id="labgrid"),
        pytest.param([PYTHON, "-c", AVOCADO], (), id="avocado-vt"),
        pytest.param(["node", "-e", NPM], (str(CLIENTS),), id="qemu-qmp"),
    ],
)
def test_a_client_sees_of_qmon_what_it_sees_of_qemu(
    client: Sequence[str], more: Sequence[str], tmp_path: Path
) -> None:
    require("qemu-system-x86_64", client[0], PYTHON)
    theirs = said_by(client, QEMU_7, tmp_path / "qemu", *more)
    ours = said_by(client, QMON_HERE, tmp_path / "qmon", *more)
    assert ours == theirs
