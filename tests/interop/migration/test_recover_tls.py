"""A paused migration goes on over TLS, and over nothing else, whoever was restarted meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.images import MIB, blank, drive, filled, same
from tests.support.ports import free_port
from tests.support.processes import Lab, Qmon
from tests.support.waiting import eventually

SIZE = 8 * MIB
RECOVER = "migrate_set_capability x-qmon-recover on"


class Ends:
    """A source and a destination that use TLS, each of which can be started again."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        authority = Authority(lab.folder / "pki")
        self._options = {
            name: ["-object", f"tls-creds-x509,id=tls0,dir={authority.folder(endpoint)},endpoint={endpoint}"]
            for name, endpoint in (("source", "client"), ("target", "server"))
        }
        filled(lab.folder / "source.img", SIZE)
        blank(lab.folder / "target.img", SIZE)
        self.uri = f"tcp:localhost:{free_port()}"
        self.source = self._start("source", "source")
        self.target = self._start("target", "target")
        for side in (self.source, self.target):
            side.quietly(RECOVER, "migrate_set_parameter tls-creds tls0")
        self.source.quietly("migrate_set_parameter max-bandwidth 1M")
        self.target.quietly(f"migrate_incoming {self.uri}")
        self.source.quietly(f"migrate -d blk {self.uri}")
        self.target.wait_migration("active")
        eventually(lambda: "transferred disk" in self.target.figures(), "figures")
        eventually(lambda: self.target.kbytes("transferred disk") > 512, "something has arrived")
        self.source.quietly("migrate_set_parameter max-bandwidth 64k")

    def _start(self, name: str, image: str) -> Qmon:
        more = ["-incoming", "defer"] if image == "target" else []
        disk = drive(self._lab.folder / f"{image}.img")
        return self._lab.start(name, *disk, *self._options[image], *more)

    def restart(self, side: str) -> None:
        """Kill a side and start it again; its TLS is not set again."""
        if side == "source":
            self.source.kill()
            self.source = self._start("source-again", "source")
        else:
            self.target.kill()
            self.target = self._start("target-again", "target")

    def completes(self, folder: Path) -> None:
        self.source.quietly("migrate_set_parameter max-bandwidth 0", f"migrate -d -r {self.uri}")
        self.source.wait_migration("completed")
        self.target.wait_status("running")
        assert same(folder / "source.img", folder / "target.img")


@pytest.mark.parametrize("restarted", ["none", "source", "target", "both"])
def test_it_goes_on_over_tls(lab: Lab, restarted: str) -> None:
    ends = Ends(lab)
    if restarted == "none":
        ends.source.quietly("migrate_pause")
    if restarted in ("source", "both"):
        ends.restart("source")
    if restarted in ("target", "both"):
        ends.restart("target")
    ends.source.wait_migration("postcopy-paused")
    ends.target.wait_migration("postcopy-paused")
    if restarted in ("target", "both"):
        ends.target.quietly("migrate_set_parameter tls-creds tls0", f"migrate_recover {ends.uri}")
    if restarted in ("source", "both"):
        said = ends.source.command(f"migrate -d -r {ends.uri}")
        assert said == "Error: the migration has begun over TLS: set the parameter tls-creds again"
        ends.source.quietly("migrate_set_parameter tls-creds tls0")
    ends.completes(lab.folder)


def test_a_destination_that_does_not_use_it_any_more_gets_nothing(lab: Lab) -> None:
    ends = Ends(lab)
    ends.restart("target")
    ends.source.wait_migration("postcopy-paused")
    ends.target.quietly(f"migrate_recover {ends.uri}")
    ends.source.quietly(f"migrate -d -r {ends.uri}")
    wanted = "the server does not speak TLS: turn TLS on there, or off here"
    eventually(lambda: wanted in ends.source.migration(), "it is said")
    assert ends.source.migration().startswith("postcopy-paused (")
    ends.target.wait_log(
        "the source uses TLS, and this destination does not: set the parameter tls-creds here"
    )
    ends.target.quietly("migrate_set_parameter tls-creds tls0")
    ends.completes(lab.folder)
