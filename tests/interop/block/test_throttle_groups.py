"""The disks of a throttle group have equal parts, however many clients each of them has."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from qmon.nbd.constants import Command
from tests.support.guest import Guest
from tests.support.images import MIB, blank
from tests.support.nbd_client import request
from tests.support.processes import Lab, Qmon
from tests.support.qmp_client import QmpClient
from tests.support.waiting import eventually

BUSY_CLIENTS = 16
REQUESTS = 20
MOST = 4
"""Reads that the busy disk may be served for one of the calm one's. Without turns it would be 16."""


class Busy(threading.Thread):
    """Clients of d0, each of which reads all the time until ``over``."""

    def __init__(self, guest: Guest, over: threading.Event) -> None:
        super().__init__()
        self._guest = guest
        self._over = over
        self.served = 0

    def run(self) -> None:
        while not self._over.is_set():
            self._guest.read(0, 512)
            self.served += 1


def shares(qmon: Qmon) -> tuple[int, int]:
    """How many reads the busy d0 and the calm d1 were served, while d1 always had one that waited."""
    over = threading.Event()
    with ExitStack() as stack:
        guests = [stack.enter_context(qmon.guest()) for _ in range(BUSY_CLIENTS)]
        calm = stack.enter_context(qmon.guest("d1"))
        busy = [Busy(guest, over) for guest in guests]
        for each in busy:
            each.start()
        try:
            eventually(lambda: sum(each.served for each in busy) > 15, "the group is at its limit")
            before = sum(each.served for each in busy)
            calm.client.send(*(request(Command.READ, 0, 512) for _ in range(REQUESTS)))
            for _ in range(REQUESTS):
                assert not calm.client.reply(512).error
            return sum(each.served for each in busy) - before, REQUESTS
        finally:
            over.set()
            for each in busy:
                each.join()


def test_a_disk_with_many_clients_leaves_the_other_its_part(lab: Lab) -> None:
    images = [blank(lab.folder / f"{number}.img", MIB) for number in (0, 1)]
    options = [
        word
        for number, image in enumerate(images)
        for word in ("-drive", f"file={image},format=raw,if=none,id=d{number},iops=50,group=g")
    ]
    qmon = lab.start("one", *options)
    qmon.export("d0", "d1")
    of_busy, of_calm = shares(qmon)
    assert of_busy <= MOST * of_calm


def test_a_filter_and_a_drive_share_the_limits_of_an_object(lab: Lab) -> None:
    images = [blank(lab.folder / f"{number}.img", MIB) for number in (0, 1)]
    qmon = lab.start(
        "one",
        *("-object", "throttle-group,id=g,x-iops-total=1000000"),
        *("-drive", f"file={images[0]},format=raw,if=none,id=d0"),
        *("-blockdev", f"driver=file,filename={images[1]},node-name=f"),
        *("-blockdev", "driver=throttle,node-name=d1,throttle-group=g,file=f"),
    )
    qmon.export("d0", "d1")
    limits = {"device": "d0", "group": "g", "iops": 50, "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops_rd": 0}
    with QmpClient(qmon.qmp_path) as client:
        client.run("block_set_io_throttle", {**limits, "iops_wr": 0})
    of_busy, of_calm = shares(qmon)
    assert of_busy <= MOST * of_calm
