"""What is counted by several users at once is all there, also of those that have gone."""

from __future__ import annotations

import threading
import time

from qmon.block.accounts import Accounts


def test_every_user_is_counted_while_it_is_there_and_when_it_has_gone() -> None:
    accounts = Accounts()

    def work(stays: bool) -> None:
        counters = accounts.open()
        for _ in range(1000):
            counters.count_read(3, time.monotonic_ns())
            counters.count_write(5, time.monotonic_ns())
        counters.count_flush(time.monotonic_ns())
        counters.count_discard(7, time.monotonic_ns())
        if not stays:
            accounts.close(counters)

    users = [threading.Thread(target=work, args=(number % 2 == 0,)) for number in range(6)]
    for user in users:
        user.start()
    while any(user.is_alive() for user in users):
        accounts.total()
    total = accounts.total()
    assert (total.rd_operations, total.rd_bytes) == (6000, 18000)
    assert (total.wr_operations, total.wr_bytes) == (6000, 30000)
    assert (total.flush_operations, total.unmap_operations, total.unmap_bytes) == (6, 6, 42)
    assert total.rd_total_time_ns > 0
    assert 0 < total.last_ns <= time.monotonic_ns()
