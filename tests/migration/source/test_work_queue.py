"""Work that other threads hand to the migration's thread is done there when it may be, and never hangs."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from qmon.migration.source.work_queue import WorkQueue
from tests.support.waiting import PATIENCE


def fails() -> None:
    raise ValueError("it can't be sent")


def test_work_waits_until_records_may_be_sent() -> None:
    work = WorkQueue()
    future = work.submit(lambda: 7)
    assert not work.is_due
    work.may_run = True
    assert work.is_due
    work.run()
    assert future.result(0) == 7
    assert not work.is_due


def test_it_is_done_in_the_order_in_which_it_was_handed_in() -> None:
    work, done = WorkQueue(), list[int]()
    for number in range(5):
        work.submit(partial(done.append, number))
    work.run()
    assert done == list(range(5))


def test_an_error_is_its_own_threads() -> None:
    work = WorkQueue()
    failed, other = work.submit(fails), work.submit(lambda: 1)
    work.run()
    with pytest.raises(ValueError, match="it can't be sent"):
        failed.result(0)
    assert other.result(0) == 1


def test_the_migrations_end_frees_who_waits_and_who_comes_later() -> None:
    work = WorkQueue()
    waiting = work.submit(lambda: 1)
    work.end()
    assert waiting.cancelled()
    assert work.submit(lambda: 1).cancelled()


def test_a_thread_that_waits_for_the_destination_is_woken() -> None:
    work = WorkQueue()
    work.may_run = True
    woken = threading.Event()

    def wait() -> None:
        with work.moved:
            if work.moved.wait_for(lambda: work.is_due, PATIENCE):
                woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    work.submit(lambda: 1)
    thread.join()
    assert woken.is_set()
